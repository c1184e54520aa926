//! One request, from parsed to answered.

/// A kept page as it is sent.
pub struct Page;
