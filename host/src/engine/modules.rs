//! Names the core modules of a component after its plugin.
//!
//! By these names processor time and failures in a composed graph find their
//! plugin: backtraces have no other. What a module calls itself is its author's
//! word, so it is replaced before plugins are composed. Names of functions stay,
//! for traces.

use std::borrow::Cow;

/// Of components within components; real ones have two or three.
const NESTING_MAX: usize = 32;

const COMPONENT_PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const MODULE_PREAMBLE: [u8; 8] = *b"\0asm\x01\0\0\0";
const SECTION_CUSTOM: u8 = 0;
const SECTION_CORE_MODULE: u8 = 1;
const SECTION_COMPONENT: u8 = 4;
/// Of the custom section `name`.
const NAMES_MODULE: u8 = 0;

/// The component with all core modules in it called `name`.
pub(super) fn named(component: &[u8], name: &str) -> Result<Vec<u8>, String> {
    in_component(component, name, 0)
}

fn in_component(component: &[u8], name: &str, nesting: usize) -> Result<Vec<u8>, String> {
    if nesting > NESTING_MAX {
        return Err(format!("components are nested deeper than {NESTING_MAX}"));
    }
    let sections = sections(component, COMPONENT_PREAMBLE)?;
    let mut out = Vec::with_capacity(component.len() + 64);
    out.extend(COMPONENT_PREAMBLE);
    for (id, content) in sections {
        let content = match id {
            SECTION_CORE_MODULE => in_module(content, name)?.into(),
            SECTION_COMPONENT => in_component(content, name, nesting + 1)?.into(),
            _ => Cow::Borrowed(content),
        };
        put_section(&mut out, id, &content);
    }
    Ok(out)
}

fn in_module(module: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let sections = sections(module, MODULE_PREAMBLE)?;
    let mut out = Vec::with_capacity(module.len() + 64);
    out.extend(MODULE_PREAMBLE);
    let mut names = Vec::new();
    put_section(&mut names, NAMES_MODULE, &text(name));
    for (id, content) in sections {
        match names_in(id, content)? {
            // Whatever follows in a second one would count as well.
            Some(old) => subsections(old)?.into_iter().filter(|(kind, _)| *kind != NAMES_MODULE).for_each(|(kind, of)| put_section(&mut names, kind, of)),
            None => put_section(&mut out, id, content),
        }
    }
    let content = [text("name"), names].concat();
    put_section(&mut out, SECTION_CUSTOM, &content);
    Ok(out)
}

/// What is in a custom section `name`.
fn names_in(id: u8, content: &[u8]) -> Result<Option<&[u8]>, String> {
    if id != SECTION_CUSTOM {
        return Ok(None);
    }
    let mut rest = content;
    let length = take_number(&mut rest)?;
    let called = take(&mut rest, length)?;
    Ok((called == b"name").then_some(rest))
}

fn sections(binary: &[u8], preamble: [u8; 8]) -> Result<Vec<(u8, &[u8])>, String> {
    subsections(binary.strip_prefix(&preamble).ok_or("it begins neither as a component nor as a module")?)
}

/// Each with an id and its length before it.
fn subsections(mut rest: &[u8]) -> Result<Vec<(u8, &[u8])>, String> {
    let mut sections = Vec::new();
    while let Some((&id, after)) = rest.split_first() {
        rest = after;
        let length = take_number(&mut rest)?;
        sections.push((id, take(&mut rest, length)?));
    }
    Ok(sections)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, after) = rest.split_at_checked(length).ok_or("it ends within a section")?;
    *rest = after;
    Ok(taken)
}

/// LEB128, of 32 bits.
fn take_number(rest: &mut &[u8]) -> Result<usize, String> {
    let mut number = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).map(|number| number as usize).map_err(|_| "the length of a section has over 32 bits".into());
        }
    }
    Err("the length of a section has no end".into())
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    put_number(out, content.len());
    out.extend(content);
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    put_number(&mut out, text.len());
    out.extend(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use wasmparser::{KnownCustom, Name, Parser, Payload};

    use super::*;

    fn names(component: &[u8]) -> (Vec<String>, usize) {
        let (mut modules, mut functions) = (Vec::new(), 0);
        for payload in Parser::new(0).parse_all(component) {
            let Payload::CustomSection(section) = payload.unwrap() else { continue };
            let KnownCustom::Name(subsections) = section.as_known() else { continue };
            for name in subsections {
                match name.unwrap() {
                    Name::Module { name, .. } => modules.push(name.to_owned()),
                    Name::Function(of) => functions += of.count() as usize,
                    _ => {}
                }
            }
        }
        (modules, functions)
    }

    /// With one function, that has a name.
    fn module(name: &str) -> Vec<u8> {
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut functions = wasm_encoder::FunctionSection::new();
        functions.function(0);
        let mut code = wasm_encoder::CodeSection::new();
        let mut body = wasm_encoder::Function::new([]);
        body.instruction(&wasm_encoder::Instruction::End);
        code.function(&body);
        let mut function_names = wasm_encoder::NameMap::new();
        function_names.append(0, "spin");
        let mut names = wasm_encoder::NameSection::new();
        if !name.is_empty() {
            names.module(name);
        }
        names.functions(&function_names);
        let mut module = wasm_encoder::Module::new();
        module.section(&types).section(&functions).section(&code).section(&names);
        module.finish()
    }

    fn component(modules: &[Vec<u8>], inner: Option<Vec<u8>>) -> Vec<u8> {
        let mut out = COMPONENT_PREAMBLE.to_vec();
        modules.iter().for_each(|module| put_section(&mut out, SECTION_CORE_MODULE, module));
        inner.iter().for_each(|inner| put_section(&mut out, SECTION_COMPONENT, inner));
        out
    }

    #[test]
    fn modules_are_called_as_the_host_says_and_functions_keep_their_names() {
        let guest = component(&[module("storefront"), module("cart")], Some(component(&[module("")], None)));
        assert!(names(&guest).0.contains(&"storefront".to_owned()), "{:?}", names(&guest));
        let named = named(&guest, "guest").unwrap();
        wasmparser::validate(&named).unwrap();
        assert_eq!(names(&named), (vec!["guest".to_owned(); 3], 3));
        assert_eq!(super::named(&named, "guest").unwrap(), named, "again it is the same");
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for broken in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0\x01\x7f", b"\0asm\x0d\0\x01\0\x00\xff\xff\xff\xff\xff\xff"] {
            assert!(named(broken, "guest").is_err(), "{broken:?}");
        }
        let mut deep = COMPONENT_PREAMBLE.to_vec();
        for _ in 0..=NESTING_MAX + 1 {
            let mut outer = COMPONENT_PREAMBLE.to_vec();
            put_section(&mut outer, SECTION_COMPONENT, &deep);
            deep = outer;
        }
        assert!(named(&deep, "guest").unwrap_err().contains("nested deeper"));
    }
}
