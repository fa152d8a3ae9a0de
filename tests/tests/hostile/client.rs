//! The client under test, where an input is made for it.
