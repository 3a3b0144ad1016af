//! Raw host system calls, each with its safety note.
