//! The unit of work: one request, event or job is one transaction.
