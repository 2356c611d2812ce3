cpdef list untracked(list names)
