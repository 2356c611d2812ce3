# Compiled without C types: msgspec's structs have none, and what it spends is calls.
