"""Source files that an interpreter executes before a program: what the program may call."""
