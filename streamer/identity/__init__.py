"""Whose session it is: sessions and ties by visitor, records by user. No I/O, no clock."""
