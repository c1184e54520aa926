//! The front's own figures, for `/metrics`.

/// Of one route, found once and then updated without a look-up.
#[derive(Debug, Default)]
pub struct RouteMetrics;
