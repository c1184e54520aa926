pub mod engine {
    pub mod bindings;
}
pub mod shop {
    pub mod manifest;
    pub mod plugin;
}
