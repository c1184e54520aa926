//! Guests for the engine's tests: core modules assembled by hand and made into
//! components against the real contracts. Each does one thing, well or badly.

use std::collections::HashMap;
use std::sync::Arc;

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, HeapType, ImportSection, InstructionSink, MemArg, MemorySection, MemoryType, Module, NameSection, RefType, TableSection, TableType,
    TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::shop::manifest::Manifest;
use crate::shop::plugin::Plugin;

/// Services and an extension point that the host has never heard of.
const CONTRACTS: &str = "
package test:guests@0.1.0;

interface types {
  record entry { name: string, amount: s64 }
}

interface numbers {
  use types.{entry};
  next: func(by: u32) -> u32;
  echo: func(entries: list<entry>) -> list<entry>;
}

interface words {
  word: func() -> u32;
}
";

const EXTENSION: &str = "
package souk:extend@0.1.0;

interface types {
  enum failure-kind { not-found, failed, refused }
  record failure { provider: string, kind: failure-kind, message: string }
}

interface note {
  use types.{failure};
  record remark { provider: string, text: string }
  remarks: func(about: string) -> result<list<remark>, failure>;
  ask: func(provider: string, about: string) -> result<remark, failure>;
}
";

pub fn plugin(manifest: &str) -> Arc<Plugin> {
    let manifest: Manifest = toml::from_str(manifest).expect("the manifest parses");
    Arc::new(Plugin {
        digest: String::new(),
        publisher: String::new(),
        denied: Default::default(),
        usage: Default::default(),
        // Seen by this plugin alone: tells whether the host knows its caller.
        config_document: format!("{{\"plugin\":\"{}\"}}", manifest.name),
        config: HashMap::new(),
        asset_urls: HashMap::new(),
        manifest,
    })
}

pub const CONFIG_OF_FRONT: u8 = 18;
pub const CONFIG_OF_NUMBERS: u8 = 20;

/// Answers with how often it was called (one byte), unless the request's route
/// begins with a letter of mischief.
pub fn many_faced() -> Arc<[u8]> {
    Guest::new("export souk:web/handler@0.1.0;")
        .export("souk:web/handler@0.1.0#handle", &[I32], Some(I32), |own, f| {
            // The route's first letter.
            f.local_get(0).i32_load(at(24)).i32_load8_u(at(0)).local_set(LOCAL);
            f.global_get(CALLS).i32_const(1).i32_add().global_set(CALLS);
            f.i32_const(BODY).global_get(CALLS).i32_store8(at(0));
            answer(f, 1);
            on_letter(f, b's', |f| {
                f.loop_(BlockType::Empty).br(0).end();
            });
            on_letter(f, b't', |f| {
                f.unreachable();
            });
            on_letter(f, b'r', |f| {
                f.local_get(0).call(own).drop();
            });
            on_letter(f, b'm', grow_memory_without_end);
            on_letter(f, b'b', |f| {
                f.loop_(BlockType::Empty);
                f.ref_null(HeapType::FUNC).i32_const(1_000).table_grow(0).i32_const(-1).i32_ne().br_if(0);
                f.end().unreachable();
            });
            // A body of 1 GiB that is not there, one of 20 MiB and one of 2 MiB that are.
            on_letter(f, b'g', |f| {
                f.i32_const(ANSWER).i32_const(1 << 30).i32_store(at(16));
            });
            for (letter, bytes) in [(b'l', 20 << 20), (b'k', 2 << 20)] {
                on_letter(f, letter, |f| {
                    f.i32_const(bytes >> 16).memory_grow(0).drop();
                    f.i32_const(ANSWER).i32_const(bytes).i32_store(at(16));
                });
            }
            f.i32_const(ANSWER);
        })
        .component()
}

/// Provides `numbers`: adds the length of its own settings.
pub fn numbers() -> Arc<[u8]> {
    let mut guest = Guest::new("import souk:host/config@0.1.0; export numbers;");
    let document = guest.import("souk:host/config@0.1.0", "document", &[I32], None);
    guest
        .export("test:guests/numbers@0.1.0#next", &[I32], Some(I32), |_, f| {
            f.i32_const(SCRATCH).call(document);
            f.local_get(0).i32_const(SCRATCH).i32_load(at(4)).i32_add();
        })
        .export("test:guests/numbers@0.1.0#echo", &[I32, I32], Some(I32), |_, f| {
            f.i32_const(SCRATCH).local_get(0).i32_store(at(0));
            f.i32_const(SCRATCH).local_get(1).i32_store(at(4));
            f.i32_const(SCRATCH);
        })
        .component()
}

/// Provides `numbers`: `next` is the length of its caller's name, 0 where the host calls.
pub fn numbers_that_ask() -> Arc<[u8]> {
    let mut guest = Guest::new("import souk:host/caller@0.1.0; export numbers;");
    let name = guest.import("souk:host/caller@0.1.0", "name", &[I32], None);
    guest
        .export("test:guests/numbers@0.1.0#next", &[I32], Some(I32), |_, f| {
            f.i32_const(SCRATCH).call(name);
            f.i32_const(SCRATCH).i32_load8_u(at(0)).i32_const(SCRATCH).i32_load(at(8)).i32_mul();
        })
        .export("test:guests/numbers@0.1.0#echo", &[I32, I32], Some(I32), |_, f| {
            f.unreachable();
        })
        .component()
}

/// Provides `numbers`, but never comes to an end of it.
pub fn failing_numbers(misdeed: fn(&mut InstructionSink)) -> Arc<[u8]> {
    let mut guest = Guest::new("export numbers;");
    guest.name = "failing.wasm";
    guest
        .export("test:guests/numbers@0.1.0#next", &[I32], Some(I32), |_, f| {
            misdeed(f);
            f.unreachable();
        })
        .export("test:guests/numbers@0.1.0#echo", &[I32, I32], Some(I32), |_, f| {
            f.unreachable();
        })
        .component()
}

/// Answers with what `numbers` makes of 1, and the length of its own settings.
pub fn counting_front() -> Arc<[u8]> {
    let mut guest = Guest::new("import souk:host/config@0.1.0; import numbers; export souk:web/handler@0.1.0;");
    let document = guest.import("souk:host/config@0.1.0", "document", &[I32], None);
    let next = guest.import("test:guests/numbers@0.1.0", "next", &[I32], Some(I32));
    guest
        .export("souk:web/handler@0.1.0#handle", &[I32], Some(I32), |_, f| {
            f.i32_const(BODY).i32_const(1).call(next).i32_store8(at(0));
            f.i32_const(SCRATCH).call(document);
            f.i32_const(BODY).i32_const(SCRATCH).i32_load(at(4)).i32_store8(at(1));
            answer(f, 2);
            f.i32_const(ANSWER);
        })
        .component()
}

/// Sends 24 entries to `numbers` and back with each request.
pub fn echoing_front() -> Arc<[u8]> {
    let mut guest = Guest::new("import numbers; export souk:web/handler@0.1.0;");
    let echo = guest.import("test:guests/numbers@0.1.0", "echo", &[I32, I32, I32], None);
    guest
        .export("souk:web/handler@0.1.0#handle", &[I32], Some(I32), |_, f| {
            for entry in 0..24 {
                f.i32_const(LIST + entry * 16).i32_const(TEXT).i32_store(at(0));
                f.i32_const(LIST + entry * 16).i32_const(24).i32_store(at(4));
            }
            f.i32_const(LIST).i32_const(24).i32_const(SCRATCH).call(echo);
            f.i32_const(BODY).i32_const(SCRATCH).i32_load(at(4)).i32_store8(at(0));
            answer(f, 1);
            f.i32_const(ANSWER);
        })
        .component()
}

/// Provides `numbers` and calls `words`.
pub fn numbers_by_words() -> Arc<[u8]> {
    let mut guest = Guest::new("import words; export numbers;");
    let word = guest.import("test:guests/words@0.1.0", "word", &[], Some(I32));
    guest
        .export("test:guests/numbers@0.1.0#next", &[I32], Some(I32), |_, f| {
            f.call(word);
        })
        .export("test:guests/numbers@0.1.0#echo", &[I32, I32], Some(I32), |_, f| {
            f.unreachable();
        })
        .component()
}

/// Provides `words` and calls `numbers`.
pub fn words_by_numbers() -> Arc<[u8]> {
    let mut guest = Guest::new("import numbers; export words;");
    let next = guest.import("test:guests/numbers@0.1.0", "next", &[I32], Some(I32));
    guest
        .export("test:guests/words@0.1.0#word", &[], Some(I32), |_, f| {
            f.i32_const(1).call(next);
        })
        .component()
}

/// Provides `numbers` with another type of `next` than everyone expects.
pub fn other_numbers() -> Arc<[u8]> {
    let mut guest = Guest::new("export numbers;");
    guest.contracts = CONTRACTS.replace("next: func(by: u32) -> u32", "next: func(by: s64) -> u32");
    guest
        .export("test:guests/numbers@0.1.0#next", &[ValType::I64], Some(I32), |_, f| {
            f.i32_const(1);
        })
        .export("test:guests/numbers@0.1.0#echo", &[I32, I32], Some(I32), |_, f| {
            f.unreachable();
        })
        .component()
}

/// Provides `numbers` of the next version, which has a function more. Of the first one, whoever calls it.
pub fn newer_numbers() -> Arc<[u8]> {
    let mut guest = Guest::new("export numbers;");
    guest.contracts = CONTRACTS.replace("@0.1.0", "@0.1.1").replace("next: func", "previous: func() -> u32; next: func");
    guest
        .export("test:guests/numbers@0.1.1#next", &[I32], Some(I32), |_, f| {
            f.local_get(0).i32_const(1).i32_add();
        })
        .export("test:guests/numbers@0.1.1#previous", &[], Some(I32), |_, f| {
            f.unreachable();
        })
        .export("test:guests/numbers@0.1.1#echo", &[I32, I32], Some(I32), |_, f| {
            f.i32_const(SCRATCH).local_get(0).i32_store(at(0));
            f.i32_const(SCRATCH).local_get(1).i32_store(at(4));
            f.i32_const(SCRATCH);
        })
        .component()
}

/// The same component, as if it had been built against another version of a package or an interface.
pub fn built_against(component: &[u8], name: &str, version: &str) -> Arc<[u8]> {
    let (before, after) = (format!("{name}@0.1.0").into_bytes(), format!("{name}@{version}").into_bytes());
    assert_eq!(before.len(), after.len(), "names have their length before them");
    let mut component = component.to_vec();
    while let Some(at) = component.windows(before.len()).position(|part| part == before) {
        component[at..at + after.len()].copy_from_slice(&after);
    }
    component.into()
}

/// Asks for remarks. Answers with 0 or, for a failure, 1; their number; and
/// the first letter of the first one's provider.
pub fn remarked_front() -> Arc<[u8]> {
    let mut guest = Guest::new("import souk:extend/note@0.1.0; export souk:web/handler@0.1.0;");
    let remarks = guest.import("souk:extend/note@0.1.0", "remarks", &[I32, I32, I32], None);
    guest
        .export("souk:web/handler@0.1.0#handle", &[I32], Some(I32), |_, f| {
            f.i32_const(TEXT).i32_const(1).i32_const(SCRATCH).call(remarks);
            f.i32_const(BODY).i32_const(SCRATCH).i32_load8_u(at(0)).i32_store8(at(0));
            f.i32_const(BODY).i32_const(SCRATCH).i32_load(at(8)).i32_store8(at(1));
            f.i32_const(BODY).i32_const(0).i32_store8(at(2));
            f.i32_const(SCRATCH).i32_load(at(8)).i32_const(0).i32_ne();
            f.i32_const(SCRATCH).i32_load8_u(at(0)).i32_eqz().i32_and().if_(BlockType::Empty);
            f.i32_const(BODY).i32_const(SCRATCH).i32_load(at(4)).i32_load(at(0)).i32_load8_u(at(0)).i32_store8(at(2));
            f.end();
            answer(f, 3);
            f.i32_const(ANSWER);
        })
        .component()
}

/// One remark a call, under a false name, unless its misdeed keeps it from it.
pub fn remarker(misdeed: fn(&mut InstructionSink)) -> Arc<[u8]> {
    Guest::new("export souk:extend/note@0.1.0;")
        .export("souk:extend/note@0.1.0#remarks", &[I32, I32], Some(I32), |_, f| {
            misdeed(f);
            f.i32_const(SCRATCH).i32_const(0).i32_store8(at(0));
            f.i32_const(SCRATCH).i32_const(LIST).i32_store(at(4));
            f.i32_const(SCRATCH).i32_const(1).i32_store(at(8));
            for text in [0, 8] {
                f.i32_const(LIST).i32_const(TEXT).i32_store(at(text));
                f.i32_const(LIST).i32_const(4).i32_store(at(text + 4));
            }
            f.i32_const(SCRATCH);
        })
        .export("souk:extend/note@0.1.0#ask", &[I32, I32, I32, I32], Some(I32), |_, f| {
            f.unreachable();
        })
        .component()
}

pub fn grow_memory_without_end(f: &mut InstructionSink) {
    f.loop_(BlockType::Empty);
    f.i32_const(16).memory_grow(0).i32_const(-1).i32_ne().br_if(0);
    f.end().unreachable();
}

const I32: ValType = ValType::I32;

/// Every guest's memory, in bytes from its beginning.
const ANSWER: i32 = 1024;
const BODY: i32 = 1100;
const SCRATCH: i32 = 1200;
const TEXT: i32 = 1300;
const LIST: i32 = 2048;
const HEAP: i32 = 8192;

const NEXT_FREE: u32 = 0;
const CALLS: u32 = 1;
/// An `i32` of every exported function, after its one parameter.
const LOCAL: u32 = 1;

const fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}

/// Makes the record at [`ANSWER`] an answer with so many bytes of [`BODY`].
fn answer(f: &mut InstructionSink, bytes: i32) {
    f.i32_const(ANSWER).i32_const(200).i32_store(at(0));
    f.i32_const(ANSWER).i32_const(BODY).i32_store(at(12));
    f.i32_const(ANSWER).i32_const(bytes).i32_store(at(16));
}

fn on_letter(f: &mut InstructionSink, letter: u8, then: impl FnOnce(&mut InstructionSink)) {
    f.local_get(LOCAL).i32_const(letter.into()).i32_eq().if_(BlockType::Empty);
    then(f);
    f.end();
}

/// A module with one memory and one table, whose allocator forgets everything
/// when a call has ended.
struct Guest {
    /// Of the module; shown in backtraces.
    name: &'static str,
    contracts: String,
    world: &'static str,
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    exports: ExportSection,
    code: CodeSection,
    imported: u32,
    defined: u32,
}

impl Guest {
    fn new(world: &'static str) -> Self {
        Self {
            name: "guest.wasm",
            contracts: CONTRACTS.into(),
            world,
            types: TypeSection::new(),
            imports: ImportSection::new(),
            functions: FunctionSection::new(),
            exports: ExportSection::new(),
            code: CodeSection::new(),
            imported: 0,
            defined: 0,
        }
    }

    fn signature(&mut self, parameters: &[ValType], result: Option<ValType>) -> u32 {
        self.types.ty().function(parameters.iter().copied(), result);
        self.types.len() - 1
    }

    /// All of them before the first export.
    fn import(&mut self, interface: &str, name: &str, parameters: &[ValType], result: Option<ValType>) -> u32 {
        let signature = self.signature(parameters, result);
        self.imports.import(interface, name, EntityType::Function(signature));
        self.imported += 1;
        self.imported - 1
    }

    fn export(
        mut self,
        name: &str,
        parameters: &[ValType],
        result: Option<ValType>,
        body: impl FnOnce(u32, &mut InstructionSink),
    ) -> Self {
        self.define(name, parameters, result, body);
        if result.is_some() && !["#next", "#previous", "#word"].iter().any(|plain| name.ends_with(plain)) {
            self.define(&format!("cabi_post_{name}"), &[I32], None, |_, f| {
                f.i32_const(HEAP).global_set(NEXT_FREE);
            });
        }
        self
    }

    fn define(&mut self, name: &str, parameters: &[ValType], result: Option<ValType>, body: impl FnOnce(u32, &mut InstructionSink)) {
        let signature = self.signature(parameters, result);
        let index = self.imported + self.defined;
        self.defined += 1;
        self.functions.function(signature);
        self.exports.export(name, ExportKind::Func, index);
        let mut function = Function::new([(1, I32)]);
        body(index, &mut function.instructions());
        function.instructions().end();
        self.code.function(&function);
    }

    fn component(mut self) -> Arc<[u8]> {
        self.define("cabi_realloc", &[I32, I32, I32, I32], Some(I32), |_, f| {
            f.global_get(NEXT_FREE).i32_const(7).i32_add().i32_const(-8).i32_and().local_tee(4);
            f.local_get(3).i32_add().global_set(NEXT_FREE);
            f.local_get(4);
        });
        self.exports.export("memory", ExportKind::Memory, 0);
        let mut tables = TableSection::new();
        tables.table(TableType { element_type: RefType::FUNCREF, table64: false, minimum: 1, maximum: None, shared: false });
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 2, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut globals = GlobalSection::new();
        for value in [HEAP, 0] {
            globals.global(GlobalType { val_type: I32, mutable: true, shared: false }, &ConstExpr::i32_const(value));
        }
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(TEXT), *b"liar and a few more words");
        let mut names = NameSection::new();
        names.module(self.name);
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&tables).section(&memories);
        let mut module = module.section(&globals).section(&self.exports).section(&self.code).section(&data).section(&names).clone().finish();

        let mut resolve = Resolve::default();
        for path in ["../wit/host", "../wit/web"] {
            resolve.push_path(path).expect("the contracts parse");
        }
        resolve.push_str("extend.wit", EXTENSION).expect("the extension point parses");
        let text = format!("{} world guest {{ {} }}", self.contracts, self.world);
        let package = resolve.push_str("guests.wit", &text).expect("the world parses");
        let world = resolve.select_world(&[package], Some("guest")).expect("the world is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the world fits in the module");
        ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .expect("the module has metadata")
            .encode()
            .expect("the module keeps to its world")
            .into()
    }
}
