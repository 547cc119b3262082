//! What a project's files say about it: names and contents in, facts out.
