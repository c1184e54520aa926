//! The route table: which plugin answers which path, in which language.
//!
//! Built from the manifests once per live set and never changed afterwards, so
//! that a request sees one consistent site. Paths are matched as sent (still
//! percent-encoded, dot segments untouched); only parameters are decoded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

use super::assets::Asset;
use super::headers::quality_of;
use crate::shop::manifest::{Route, Scripts};
use crate::shop::plugin::Plugin;

/// Paths the host answers itself.
const RESERVED: [&str; 4] = ["/assets", "/media", "/health", super::browser::RESET_PATH];
const PATH_BYTES_MAX: usize = 512;
/// Of the paths that a plugin's forms may lead to, which its pages' policy lists.
const FORM_PATHS_BYTES_MAX: usize = 1_024;
/// Pages that browsers hold still ask for the assets of the plugins that made
/// them: replaced assets stay for this many swaps.
const ASSET_SWAPS_KEPT: u64 = 16;
/// Of all of them, those that were live last.
const ASSET_BYTES_KEPT: usize = 64 << 20;

pub struct Site {
    pub locales: Vec<Locale>,
    router: matchit::Router<Node>,
    assets: HashMap<String, KeptAsset>,
    /// Grows with every site built; cached pages carry it.
    pub generation: u64,
    /// So many shoppers in a hundred have another version of a service. Kept
    /// pages are those of the live version, and are not for them.
    pub canary_percent: u8,
}

/// A loaded plugin with the files it serves.
#[derive(Clone)]
pub struct SitePlugin {
    pub plugin: Arc<Plugin>,
    pub assets: Vec<Arc<Asset>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale {
    /// BCP 47, for instance `zh-CN`.
    pub tag: String,
    /// `/zh`, or `/zh-cn` where two locales share a language.
    pub prefix: String,
}

impl Locale {
    pub fn is_chinese(&self) -> bool {
        self.tag.split('-').next().is_some_and(|language| language.eq_ignore_ascii_case("zh"))
    }
}

struct KeptAsset {
    asset: Arc<Asset>,
    last_live: u64,
}

struct Node {
    /// The path as mounted, for messages.
    path: String,
    entries: Vec<(Method, Mount)>,
    allow: HeaderValue,
}

/// A route at one place in the tree.
#[derive(Clone)]
pub struct Mount {
    pub route: Arc<SiteRoute>,
    pub at: MountedAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountedAt {
    /// Where the manifest says.
    Path,
    /// Under the prefix of this locale (index into [`Site::locales`]).
    Locale(usize),
    /// The bare path of a localised route: redirects to a locale.
    Bare,
}

pub struct SiteRoute {
    pub plugin: Arc<str>,
    pub route: Route,
    pub page: Arc<SitePage>,
    /// The last answer was kept in the page cache: worth waiting for one
    /// rendering instead of starting many.
    pub caches: AtomicBool,
    pub metrics: std::sync::OnceLock<Arc<super::metrics::RouteMetrics>>,
}

/// What all pages of one plugin have in common.
pub struct SitePage {
    pub plugin: Arc<str>,
    pub scripts: Scripts,
    pub cookies: BTreeSet<String>,
    /// Where its forms may lead, as paths of a content security policy: with a
    /// slash at the end for all that begin so.
    pub forms: Vec<String>,
    pub policy: std::sync::OnceLock<HeaderValue>,
}

pub enum Found<'s> {
    Mount(&'s Mount, Vec<(String, String)>),
    /// Canonical path: the one asked for without its final slash.
    Slash,
    /// The `Allow` of the path.
    MethodNotAllowed(&'s HeaderValue),
    /// A parameter is not UTF-8 once decoded, or holds a NUL.
    Malformed,
    NotFound,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    #[error("the shop has no locales: name at least one under `locales` in souk.toml")]
    NoLocales,
    #[error("locale `{0}` is not a BCP 47 tag of letters, digits and hyphens")]
    Locale(String),
    #[error("plugin `{plugin}`, route `{route}`: {problem}")]
    Route { plugin: String, route: String, problem: String },
    #[error(
        "plugin `{plugin}`, route `{route}` ({path}) conflicts with plugin `{other_plugin}`, route `{other_route}` ({other_path}): change the path or the methods of one of them"
    )]
    Conflict { plugin: String, route: String, path: String, other_plugin: String, other_route: String, other_path: String },
}

impl Site {
    /// `previous` lends its assets, so that pages rendered before the swap
    /// still find theirs.
    pub fn build(plugins: &[SitePlugin], locales: &[String], previous: Option<&Site>) -> Result<Site, SiteError> {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let locales = locales_with_prefixes(locales)?;
        let mut nodes: Vec<Node> = Vec::new();
        let mut by_path: HashMap<String, usize> = HashMap::new();
        for SitePlugin { plugin, .. } in plugins {
            let name: Arc<str> = plugin.name().into();
            for route in &plugin.manifest.routes {
                check_route(&name, route)?;
            }
            let page = Arc::new(SitePage {
                plugin: name.clone(),
                scripts: plugin.manifest.pages.scripts,
                cookies: plugin.manifest.pages.cookies.clone(),
                forms: form_paths(&name, &plugin.manifest.routes, &locales),
                policy: std::sync::OnceLock::new(),
            });
            for route in &plugin.manifest.routes {
                let shared = Arc::new(SiteRoute {
                    plugin: name.clone(),
                    route: route.clone(),
                    page: page.clone(),
                    caches: AtomicBool::new(false),
                    metrics: std::sync::OnceLock::new(),
                });
                for (path, at) in mounts(route, &locales) {
                    let index = *by_path.entry(path.clone()).or_insert_with(|| {
                        nodes.push(Node { path, entries: Vec::new(), allow: HeaderValue::from_static("") });
                        nodes.len() - 1
                    });
                    for method in &route.methods {
                        // `check_route` has seen that it is a method.
                        let Ok(method) = method.parse::<Method>() else { continue };
                        let node = &mut nodes[index];
                        if let Some((_, other)) = node.entries.iter().find(|(m, _)| *m == method) {
                            return Err(conflict(&shared, &node.path, &other.route, &node.path));
                        }
                        node.entries.push((method, Mount { route: shared.clone(), at }));
                    }
                }
            }
        }
        let mut router = matchit::Router::new();
        // By path: entries of nodes already moved into the router, for messages.
        let mut inserted: HashMap<String, Arc<SiteRoute>> = HashMap::new();
        for mut node in nodes {
            node.allow = allow_header(&node.entries);
            let Some((_, mount)) = node.entries.first() else { continue };
            let (path, route) = (node.path.clone(), mount.route.clone());
            if let Err(error) = router.insert(path.clone(), node) {
                return Err(match error {
                    matchit::InsertError::Conflict { with } if inserted.contains_key(&with) => {
                        conflict(&route, &path, &inserted[&with], &with)
                    }
                    error => bad_route(&route.plugin, &route.route, error.to_string()),
                });
            }
            inserted.insert(path, route);
        }
        let live = plugins.iter().flat_map(|p| &p.assets).map(|asset| (asset.url.clone(), KeptAsset { asset: asset.clone(), last_live: generation }));
        let mut assets: HashMap<String, KeptAsset> = live.collect();
        let replaced = previous.into_iter().flat_map(|p| p.assets.values());
        let mut replaced: Vec<_> = replaced.filter(|kept| kept.last_live + ASSET_SWAPS_KEPT > generation && !assets.contains_key(&kept.asset.url)).collect();
        replaced.sort_by_key(|kept| std::cmp::Reverse(kept.last_live));
        let mut bytes_left = ASSET_BYTES_KEPT;
        for kept in replaced {
            let Some(left) = bytes_left.checked_sub(kept.asset.bytes()) else { break };
            bytes_left = left;
            assets.insert(kept.asset.url.clone(), KeptAsset { asset: kept.asset.clone(), last_live: kept.last_live });
        }
        Ok(Site { locales, router, assets, generation, canary_percent: 0 })
    }

    pub fn asset(&self, path: &str) -> Option<&Arc<Asset>> {
        self.assets.get(path).map(|kept| &kept.asset)
    }

    /// Without what only whoever knows the address may know.
    pub fn path_for_log<'s>(&'s self, path: &'s str) -> &'s str {
        match self.router.at(path) {
            Ok(matched) if matched.value.entries.iter().any(|(_, mount)| mount.route.route.secret_path) => &matched.value.path,
            _ => path,
        }
    }

    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        if let Some(without) = path.strip_suffix('/')
            && !without.is_empty()
            && self.router.at(without).is_ok()
        {
            return Found::Slash;
        }
        let Ok(matched) = self.router.at(path) else { return Found::NotFound };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let Some((_, mount)) = matched.value.entries.iter().find(|(m, _)| m == wanted) else {
            return Found::MethodNotAllowed(&matched.value.allow);
        };
        let mut params = Vec::with_capacity(matched.params.len());
        for (name, value) in matched.params.iter() {
            let Some(value) = decode(value) else { return Found::Malformed };
            params.push((name.to_owned(), value));
        }
        Found::Mount(mount, params)
    }

    /// The index of the locale to use: the cookie's, else the best of
    /// Accept-Language, else the default.
    pub fn negotiate_locale(&self, cookie: Option<&str>, accept_language: Option<&str>) -> usize {
        let by_tag = |tag: &str| self.locales.iter().position(|l| l.tag.eq_ignore_ascii_case(tag));
        if let Some(index) = cookie.and_then(by_tag) {
            return index;
        }
        let Some(header) = accept_language else { return 0 };
        let mut best: Option<(f32, usize)> = None;
        // Browsers send a handful; the bound keeps a hostile header cheap.
        for range in header.split(',').take(32) {
            let (tag, quality) = quality_of(range);
            if quality <= 0.0 || best.is_some_and(|(q, _)| q >= quality) {
                continue;
            }
            let language = |tag: &str| tag.split('-').next().unwrap_or(tag).to_ascii_lowercase();
            let index = match tag {
                "*" => Some(0),
                tag => by_tag(tag).or_else(|| self.locales.iter().position(|l| language(&l.tag) == language(tag))),
            };
            if let Some(index) = index {
                best = Some((quality, index));
            }
        }
        best.map_or(0, |(_, index)| index)
    }
}

/// Whether all who read a path read it alike: some take a backslash for a slash,
/// two slashes for the name of a host, or a control character for nothing.
pub fn is_unambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_bad = |at: usize| match bytes[at] {
        b'\\' | 0..=0x1f | 0x7f => true,
        b'/' => bytes.get(at + 1) == Some(&b'/'),
        // %00 to %1f, %7f and %5c
        b'%' => match bytes.get(at + 1..at + 3) {
            Some([b'0' | b'1', _]) => true,
            Some([b'7', low]) => low.eq_ignore_ascii_case(&b'f'),
            Some([b'5', low]) => low.eq_ignore_ascii_case(&b'c'),
            _ => false,
        },
        _ => false,
    };
    !(0..bytes.len()).any(is_bad)
}

/// UTF-8 without NUL behind percent encoding.
pub fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

fn locales_with_prefixes(tags: &[String]) -> Result<Vec<Locale>, SiteError> {
    if tags.is_empty() {
        return Err(SiteError::NoLocales);
    }
    let language = |tag: &str| tag.split('-').next().unwrap_or(tag).to_ascii_lowercase();
    tags.iter()
        .map(|tag| {
            let shape = tag.split('-').all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()));
            if !shape {
                return Err(SiteError::Locale(tag.clone()));
            }
            let alone = tags.iter().filter(|t| language(t) == language(tag)).count() == 1;
            let name = if alone { language(tag) } else { tag.to_ascii_lowercase() };
            Ok(Locale { tag: tag.clone(), prefix: format!("/{name}") })
        })
        .collect()
}

fn mounts(route: &Route, locales: &[Locale]) -> Vec<(String, MountedAt)> {
    if !route.localized {
        return vec![(route.path.clone(), MountedAt::Path)];
    }
    let tail = if route.path == "/" { "" } else { &route.path };
    let mut all = vec![(route.path.clone(), MountedAt::Bare)];
    all.extend(locales.iter().enumerate().map(|(i, l)| (format!("{}{tail}", l.prefix), MountedAt::Locale(i))));
    all
}

/// Paths of the routes that forms can ask for, as [`SitePage::forms`] has them.
/// Where that is too long, by the first part of each.
fn form_paths(plugin: &str, routes: &[Route], locales: &[Locale]) -> Vec<String> {
    let forms = routes.iter().filter(|route| route.methods.contains("GET") || route.methods.contains("POST"));
    let paths: BTreeSet<String> = forms.flat_map(|route| mounts(route, locales)).filter_map(|(path, _)| form_path(&path)).collect();
    let bytes = |paths: &BTreeSet<String>| paths.iter().map(|path| path.len() + 4).sum::<usize>();
    let covered = |paths: BTreeSet<String>| -> BTreeSet<String> {
        let is_within = |path: &String| paths.iter().any(|other| other != path && other.ends_with('/') && path.starts_with(other));
        paths.iter().filter(|path| !is_within(path)).cloned().collect()
    };
    let mut kept = covered(paths);
    if bytes(&kept) > FORM_PATHS_BYTES_MAX {
        let first = |path: &String| path[1..].find('/').map_or_else(|| path.clone(), |end| path[..end + 2].to_owned());
        kept = covered(kept.iter().map(first).collect());
    }
    if bytes(&kept) > FORM_PATHS_BYTES_MAX {
        tracing::warn!(target: "front", plugin, "its routes are too many for the policy of its pages: forms on them lead nowhere");
        return Vec::new();
    }
    kept.into_iter().collect()
}

/// Up to the first parameter, with all that could end a source escaped. None
/// where that would be all of the shop, but for whoever answers all of it.
fn form_path(path: &str) -> Option<String> {
    let fixed = match path.find('{') {
        Some(parameter) => &path[..=path[..parameter].rfind('/').unwrap_or(0)],
        None => path,
    };
    let is_all = fixed == "/" && path != "/" && !path.starts_with("/{*");
    (!is_all).then(|| percent_encoding::utf8_percent_encode(fixed, IN_A_SOURCE).to_string())
}

/// Letters, digits and what is plain in a URL stay as they are.
const IN_A_SOURCE: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn check_route(plugin: &str, route: &Route) -> Result<(), SiteError> {
    let path = &route.path;
    let problem = if !path.starts_with('/') || path.starts_with("//") {
        Some("its path must begin with one `/`".to_owned())
    } else if path.len() > PATH_BYTES_MAX {
        Some(format!("its path is longer than {PATH_BYTES_MAX} bytes"))
    } else if path.len() > 1 && path.ends_with('/') {
        Some("its path must not end with `/` (the host redirects there from the slash)".to_owned())
    } else if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || "?#%\\".contains(*c)) {
        Some(format!("its path holds {bad:?}; use visible ASCII without `?`, `#`, `%` and `\\`"))
    } else if let Some(own) = RESERVED.iter().find(|r| path.strip_prefix(**r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) {
        Some(format!("`{own}` is served by the host"))
    } else if route.methods.is_empty() {
        Some("it names no methods".to_owned())
    } else {
        route
            .methods
            .iter()
            .find(|m| !matches!(m.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS"))
            .map(|m| format!("method `{m}` is not one of GET, POST, PUT, PATCH, DELETE, OPTIONS (HEAD comes with GET)"))
    };
    match problem {
        Some(problem) => Err(bad_route(plugin, route, problem)),
        None => Ok(()),
    }
}

fn allow_header(entries: &[(Method, Mount)]) -> HeaderValue {
    let mut names: Vec<&str> = entries.iter().map(|(m, _)| m.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("GET, HEAD"))
}

fn bad_route(plugin: &str, route: &Route, problem: String) -> SiteError {
    SiteError::Route { plugin: plugin.to_owned(), route: route.name.clone(), problem }
}

fn conflict(route: &SiteRoute, path: &str, other: &SiteRoute, other_path: &str) -> SiteError {
    SiteError::Conflict {
        plugin: route.plugin.to_string(),
        route: route.route.name.clone(),
        path: path.to_owned(),
        other_plugin: other.plugin.to_string(),
        other_route: other.route.name.clone(),
        other_path: other_path.to_owned(),
    }
}
