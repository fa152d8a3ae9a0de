//! ERROR: codes and texts.
