//! 4.4: fragments.
