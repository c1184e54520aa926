//! What a component may consist of, counted before anything is made of it.
//!
//! Validating and compiling keep something for each item of a component, and
//! some of it for each pair: a small file can ask for gigabytes. The sections
//! are walked here without keeping anything, and the first bound that is passed
//! is told by its name. Called by `worker`, in a process of its own; the limits
//! of that process hold for whatever these bounds do not foresee.

use wasmparser::{Parser, Payload};

/// Components and modules within each other.
const NESTING_MAX: u32 = 16;
const NAME_BYTES_MAX: usize = 1_024;
/// Of all sections of types outside core modules.
const TYPE_BYTES_MAX: u64 = 4 << 20;

/// Of one kind of item, in all components and modules of a file together.
struct Count {
    what: &'static str,
    found: u64,
    max: u64,
}

impl Count {
    const fn new(what: &'static str, max: u64) -> Self {
        Self { what, found: 0, max }
    }

    fn add(&mut self, more: u32) -> Result<(), String> {
        self.found += u64::from(more);
        if self.found > self.max {
            return Err(format!("it has more than {} {}, which is what is allowed", self.max, self.what));
        }
        Ok(())
    }
}

/// The first bound that `component` passes, or what keeps it from being read.
pub(super) fn check(component: &[u8]) -> Result<(), String> {
    let mut components = Count::new("nested components", 500);
    let mut modules = Count::new("core modules", 300);
    let mut instances = Count::new("instances", 2_000);
    let mut types = Count::new("types", 50_000);
    let mut imports = Count::new("imports of components", 2_000);
    let mut exports = Count::new("exports of components", 5_000);
    let mut aliases = Count::new("aliases", 50_000);
    let mut lifted = Count::new("lifted and lowered functions", 20_000);
    let mut functions = Count::new("core functions", 300_000);
    let mut core_types = Count::new("core types", 100_000);
    let mut core_imports = Count::new("core imports", 20_000);
    let mut core_exports = Count::new("core exports", 100_000);
    let mut globals = Count::new("globals", 100_000);
    let mut memories = Count::new("core memories and tables", 1_000);
    let mut segments = Count::new("segments of data and elements", 200_000);
    let (mut nesting, mut type_bytes) = (0, 0);
    let name_fits = |name: &str| match name.len() {
        bytes @ ..=NAME_BYTES_MAX => Ok(bytes),
        bytes => Err(format!("the name of an import or export has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")),
    };
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| error.to_string())? {
            Payload::Version { .. } => {
                nesting += 1;
                if nesting > NESTING_MAX {
                    return Err(format!("its components are nested more than {NESTING_MAX} deep, which is what is allowed"));
                }
            }
            Payload::End(_) => nesting -= 1,
            Payload::ComponentSection { .. } => components.add(1)?,
            Payload::ModuleSection { .. } => modules.add(1)?,
            Payload::InstanceSection(section) => instances.add(section.count())?,
            Payload::ComponentInstanceSection(section) => instances.add(section.count())?,
            Payload::ComponentTypeSection(section) => {
                types.add(section.count())?;
                let range = section.range();
                type_bytes += (range.end - range.start) as u64;
            }
            Payload::CoreTypeSection(section) => {
                types.add(section.count())?;
                let range = section.range();
                type_bytes += (range.end - range.start) as u64;
            }
            Payload::ComponentImportSection(section) => {
                imports.add(section.count())?;
                for import in section {
                    name_fits(import.map_err(|error| error.to_string())?.name.name)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                exports.add(section.count())?;
                for export in section {
                    name_fits(export.map_err(|error| error.to_string())?.name.name)?;
                }
            }
            Payload::ComponentAliasSection(section) => aliases.add(section.count())?,
            Payload::ComponentCanonicalSection(section) => lifted.add(section.count())?,
            Payload::TypeSection(section) => core_types.add(section.count())?,
            Payload::ImportSection(section) => core_imports.add(section.count())?,
            Payload::FunctionSection(section) => functions.add(section.count())?,
            Payload::ExportSection(section) => core_exports.add(section.count())?,
            Payload::GlobalSection(section) => globals.add(section.count())?,
            Payload::MemorySection(section) => memories.add(section.count())?,
            Payload::TableSection(section) => memories.add(section.count())?,
            Payload::DataSection(section) => segments.add(section.count())?,
            Payload::ElementSection(section) => segments.add(section.count())?,
            _ => {}
        }
        if type_bytes > TYPE_BYTES_MAX {
            return Err(format!("its types take {type_bytes} bytes; at most {TYPE_BYTES_MAX} are allowed"));
        }
    }
    Ok(())
}
