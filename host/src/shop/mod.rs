//! The plugins of a shop: manifests, loading, linking, swapping.

pub mod manifest;
pub mod plugin;
