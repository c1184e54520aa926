//! What the host keeps with every wasmtime store.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::capability::Services;
use crate::work::SharedUnit;

/// The data of a guest's store. Capabilities are implemented for it.
pub struct GuestState {
    /// The unit of the call that is running; ended between calls.
    pub unit: SharedUnit,
    pub services: Arc<Services>,
    pub(super) limits: MemoryLimits,
}

/// Keeps all linear memories and all tables of an instance together under one
/// limit each: a limit per memory could be multiplied by their number.
pub(super) struct MemoryLimits {
    pub memory_bytes_max: usize,
    pub table_elements_max: usize,
    pub memory_bytes: usize,
    pub table_elements: usize,
    /// A growth was denied since this was last cleared.
    pub denied: bool,
}

impl ResourceLimiter for MemoryLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired - current);
        let allowed = total <= self.memory_bytes_max && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.memory_bytes = total;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired - current);
        let allowed = total <= self.table_elements_max && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.table_elements = total;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn instances(&self) -> usize {
        super::CORE_INSTANCES_PER_GRAPH_MAX as usize
    }

    fn tables(&self) -> usize {
        super::TABLES_PER_GRAPH_MAX as usize
    }

    fn memories(&self) -> usize {
        super::MEMORIES_PER_GRAPH_MAX as usize
    }
}
