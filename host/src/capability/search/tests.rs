//! What any search engine behind this capability has to do: seen from a plugin,
//! through commits of a store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::query::LIMIT_MAX;
use super::*;
use crate::engine::bindings::souk::host::search::{AnyFilter, Filter, RangeFilter, Sort};
use crate::shop::plugin::Plugin;
use crate::store::EngineKind;
use crate::work::LivePlugins;

const FIELDS: &str = r#"
[[indexes]]
name = "products"
fields = [
    { name = "name", kind = "text", boost = 3.0, suggest = true },
    { name = "description", kind = "text" },
    { name = "category", kind = "keyword" },
    { name = "price", kind = "number" },
]
"#;

fn plugin(name: &str, indexes: &str) -> Arc<Plugin> {
    let manifest = toml::from_str(&format!("name = \"{name}\"\nversion = \"1.0.0\"\n{indexes}")).unwrap();
    Arc::new(Plugin {
        manifest,
        digest: String::new(),
        publisher: String::new(),
        denied: Default::default(),
        usage: Default::default(),
        config_document: "{}".into(),
        config: HashMap::new(),
        asset_urls: HashMap::new(),
    })
}

struct Shop {
    folder: tempfile::TempDir,
    store: Store,
    search: Arc<Search>,
    live: watch::Sender<Arc<LivePlugins>>,
}

fn live(plugins: &[&Arc<Plugin>]) -> Arc<LivePlugins> {
    Arc::new(plugins.iter().map(|plugin| (plugin.name().to_owned(), (*plugin).clone())).collect())
}

impl Shop {
    async fn open(plugins: &[&Arc<Plugin>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("documents"), EngineKind::Fjall).unwrap();
        Self::open_on(folder, store, plugins).await
    }

    async fn open_on(folder: tempfile::TempDir, store: Store, plugins: &[&Arc<Plugin>]) -> Self {
        let search = Arc::new(Search::new(&folder.path().join("search"), store.clone(), Vec::new()));
        let live = watch::Sender::new(live(plugins));
        search.start(live.subscribe(), Box::new(|_: &str| None)).await;
        Self { folder, store, search, live }
    }

    async fn restart(self, plugins: &[&Arc<Plugin>]) -> Self {
        self.search.stop().await;
        Self::open_on(self.folder, self.store, plugins).await
    }

    /// As a crash would leave it: nothing is told to the indexer.
    async fn commit(&self, plugin: &Arc<Plugin>, changes: Vec<(&str, Option<Vec<Field>>)>) -> u64 {
        let mut txn = self.store.begin();
        for (id, fields) in changes {
            let stored = fields.map(|fields| encode(&document(&plugin.manifest.indexes[0], fields).unwrap()));
            change(&mut txn, plugin.name(), "products", id, stored);
        }
        self.store.commit(txn).await.unwrap().seq
    }

    async fn put(&self, plugin: &Arc<Plugin>, documents: Vec<(&str, Vec<Field>)>) {
        let seq = self.commit(plugin, documents.into_iter().map(|(id, fields)| (id, Some(fields))).collect()).await;
        self.search.followed(seq).await;
    }

    fn ids(&self, plugin: &Arc<Plugin>, query: SearchQuery) -> Vec<String> {
        let results = self.search.query(plugin, "products", &query).unwrap();
        results.hits.into_iter().map(|hit| hit.id).collect()
    }

    fn found(&self, plugin: &Arc<Plugin>, text: &str) -> Vec<String> {
        let mut ids = self.ids(plugin, asking(text));
        ids.sort();
        ids
    }

    fn log_length(&self) -> usize {
        let (start, end) = (keys::log_entry(keys::SEARCH, [0; 12]), keys::log_entry(keys::SEARCH, [0xff; 12]));
        self.store.begin().scan(std::ops::Bound::Included(&start), std::ops::Bound::Included(&end), 10_000, false).unwrap().len()
    }

    /// The log's end is trimmed after it was followed.
    async fn settled(&self) {
        let mut commits = self.store.subscribe();
        while self.log_length() > 0 {
            commits.changed().await.unwrap();
        }
        self.search.followed(self.store.durable_seq()).await;
    }
}

fn product(name: &str, description: &str, category: &str, price: i64) -> Vec<Field> {
    let field = |name: &str, value| Field { name: name.into(), value };
    vec![
        field("name", GuestValue::Text(name.into())),
        field("description", GuestValue::Text(description.into())),
        field("category", GuestValue::Many(category.split(' ').map(str::to_owned).collect())),
        field("price", GuestValue::Number(price)),
    ]
}

fn asking(text: &str) -> SearchQuery {
    SearchQuery {
        text: text.into(),
        fields: vec![],
        filters: vec![],
        sort: Sort::Relevance,
        offset: 0,
        limit: 50,
        facets: vec![],
        highlight: vec![],
        typo_tolerance: true,
    }
}

fn any_of(field: &str, values: &[&str]) -> Filter {
    Filter::AnyOf(AnyFilter { field: field.into(), values: values.iter().map(|value| (*value).to_owned()).collect() })
}

fn many_prices(name: &str, prices: &[&str]) -> Vec<Field> {
    let prices = GuestValue::Many(prices.iter().map(|price| (*price).to_owned()).collect());
    vec![Field { name: "name".into(), value: GuestValue::Text(name.into()) }, Field { name: "price".into(), value: prices }]
}

#[tokio::test]
async fn a_number_field_may_have_several_values_and_one_within_the_span_suffices() {
    let plugin = plugin("search", FIELDS);
    let shop = Shop::open(&[&plugin]).await;
    shop.put(&plugin, vec![("gap", many_prices("Tea", &["100", "900"])), ("one", many_prices("Tea", &["500"])), ("none", many_prices("Tea", &[]))]).await;
    let within = |min, max| {
        let mut query = asking("tea");
        query.filters = vec![between(min, max)];
        let mut ids = shop.ids(&plugin, query);
        ids.sort();
        ids
    };
    assert_eq!(within(Some(200), Some(800)), ["one"]);
    assert_eq!(within(Some(500), None), ["gap", "one"]);
    assert_eq!(within(None, Some(100)), ["gap"]);
    assert!(document(&plugin.manifest.indexes[0], many_prices("Tea", &["dear"])).is_err());
}

fn between(min: Option<i64>, max: Option<i64>) -> Filter {
    Filter::Between(RangeFilter { field: "price".into(), min, max })
}

async fn tea_shop() -> (Shop, Arc<Plugin>) {
    let plugin = plugin("catalog", FIELDS);
    let shop = Shop::open(&[&plugin]).await;
    shop.put(
        &plugin,
        vec![
            ("oolong", product("高山乌龙茶 Mountain Oolong Tea", "Light, floral. 清香", "tea gifts", 12_800)),
            ("puer", product("普洱茶饼 Pu'er Tea Cake", "Aged & earthy <b>tea</b>", "tea", 29_900)),
            ("mug", product("陶瓷马克杯 Ceramic Mug", "Holds 350 ml of coffee or tea", "ware", 5_900)),
            ("teapot", product("紫砂茶壶 Clay Teapot", "For oolong", "ware", 39_900)),
            ("cafetiere", product("法压壶 Café Press", "Coffee for two", "ware coffee", 15_900)),
        ],
    )
    .await;
    (shop, plugin)
}

#[tokio::test]
async fn words_are_found_in_both_languages_by_prefix_and_with_mistakes() {
    let (shop, plugin) = tea_shop().await;
    let cases = [
        ("oolong", &["oolong", "teapot"][..]),
        ("OOLONG tea", &["oolong", "teapot"]),
        ("OOLONG tea ", &["oolong"]),
        ("乌龙茶", &["oolong"]),
        ("乌龙", &["oolong"]),
        ("高山茶", &["oolong"]),
        ("茶", &["oolong", "puer", "teapot"]),
        ("陶瓷杯", &["mug"]),
        ("马克 mug", &["mug"]),
        ("紫砂 oolong", &["teapot"]),
        ("teap", &["teapot"]),
        ("cafe", &["cafetiere"]),
        ("the mug", &["mug"]),
        ("coffee tea", &["mug"]),
        ("spaceship", &[]),
        ("\"oolong", &["oolong", "teapot"]),
        ("oolong OR -tea*:", &["oolong", "teapot"]),
        ("!!!", &[]),
        ("   ", &["cafetiere", "mug", "oolong", "puer", "teapot"]),
        ("", &["cafetiere", "mug", "oolong", "puer", "teapot"]),
        // Mistyped
        ("oolnog", &["oolong", "teapot"]),
        ("cerammic", &["mug"]),
        // Four letters of which one is wrong may be the beginning of anything.
        ("ciram", &["mug"]),
        ("cira", &[]),
        ("乌笼茶", &["oolong"]),
        ("353 ml", &[]),
    ];
    let other = |(text, expected): &(&str, &[&str])| {
        let found = shop.found(&plugin, text);
        (found != *expected).then(|| format!("{text:?}: {found:?}"))
    };
    assert_eq!(cases.iter().filter_map(other).collect::<Vec<_>>(), [""; 0]);
    let query = |text: &str, typo_tolerance| shop.search.query(&plugin, "products", &SearchQuery { typo_tolerance, ..asking(text) }).unwrap();
    assert!(query("oolnog", true).corrected && !query("oolong", true).corrected);
    assert_eq!(query("oolnog", false).total, 0);
    // The name weighs more than the description.
    assert_eq!(shop.ids(&plugin, asking("oolong"))[0], "oolong");
    // What exists but is filtered out was not mistyped.
    let filtered = SearchQuery { filters: vec![any_of("category", &["coffee"])], ..asking("mug") };
    assert!(shop.ids(&plugin, filtered).is_empty());
}

#[tokio::test]
async fn forms_scripts_and_readings_of_a_word_are_hits_and_no_guesses() {
    let plugin = plugin("catalog", FIELDS);
    let shop = Shop::open(&[&plugin]).await;
    let named = |name: &str| product(name, "", "any", 1);
    let names = ["Bread knife", "Lunch boxes", "Women's jacket", "Wi-Fi plug", "WiFi router", "Wi Fi clock", "绿茶", "龍井茶", "实木椅", "Pan rack", "餐盘"];
    let documents: Vec<_> = names.iter().map(|name| (*name, named(name))).collect();
    shop.put(&plugin, documents).await;
    let wifi = &["Wi Fi clock", "Wi-Fi plug", "WiFi router"][..];
    let cases = [
        ("knives", &["Bread knife"][..]),
        ("box", &["Lunch boxes"]),
        ("box ", &["Lunch boxes"]),
        ("women", &["Women's jacket"]),
        ("womens", &["Women's jacket"]),
        ("woman’s jackets", &["Women's jacket"]),
        ("wifi", wifi),
        ("wi-fi", wifi),
        ("wi fi ", wifi),
        ("lvcha", &["绿茶"]),
        ("lǜ chá", &["绿茶"]),
        ("lu cha", &["绿茶"]),
        ("綠茶", &["绿茶"]),
        ("longjing cha", &["龍井茶"]),
        ("longjingcha", &["龍井茶"]),
        ("龙井", &["龍井茶"]),
        ("椅子", &["实木椅"]),
        ("茶叶", &["绿茶", "龍井茶"]),
        ("木茶", &[]),
        // What the index has as a word is not read as a syllable.
        ("pan", &["Pan rack"]),
        ("canpan", &["餐盘"]),
        ("zzz", &[]),
    ];
    for (text, expected) in cases {
        let results = shop.search.query(&plugin, "products", &asking(text)).unwrap();
        let mut ids: Vec<_> = results.hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        assert_eq!((ids, results.corrected), (expected.iter().map(|id| (*id).to_owned()).collect(), false), "{text:?}");
    }
    // Only the word that nothing knows is taken to be mistyped.
    let guessed = shop.search.query(&plugin, "products", &asking("bread kinfe")).unwrap();
    assert_eq!((guessed.total, guessed.corrected), (1, true));
    assert!(shop.found(&plugin, "bread jacket").is_empty());

    let suggest = |prefix: &str| shop.search.suggest(&plugin, "products", prefix, 20).unwrap();
    assert_eq!(suggest("knives"), ["Bread knife"]);
    assert_eq!(suggest("wifi").len(), 3);
    assert_eq!(suggest("wi f").len(), 3);
    assert_eq!(suggest("longj"), ["龍井茶"]);
    assert_eq!(suggest("龙"), ["龍井茶"]);
}

#[tokio::test]
async fn filters_facets_sorting_and_pages_agree() {
    let (shop, plugin) = tea_shop().await;
    for (filters, expected) in [
        (vec![any_of("category", &["tea"])], &["oolong", "puer"][..]),
        (vec![any_of("category", &["tea", "coffee"])], &["cafetiere", "oolong", "puer"]),
        (vec![any_of("category", &[])], &[]),
        (vec![between(Some(12_800), Some(15_900))], &["cafetiere", "oolong"]),
        (vec![between(None, Some(5_900))], &["mug"]),
        (vec![between(Some(30_000), None)], &["teapot"]),
        (vec![between(None, None)], &["cafetiere", "mug", "oolong", "puer", "teapot"]),
        (vec![between(Some(2), Some(1))], &[]),
        (vec![any_of("category", &["ware"]), between(None, Some(20_000))], &["cafetiere", "mug"]),
        (vec![any_of("price", &["5900", "39900"])], &["mug", "teapot"]),
    ] {
        let mut ids = shop.ids(&plugin, SearchQuery { filters: filters.clone(), ..asking("") });
        ids.sort();
        assert_eq!(ids, expected, "{filters:?}");
    }
    let by_price = |sort| shop.ids(&plugin, SearchQuery { sort, ..asking("") });
    let ascending = ["mug", "oolong", "cafetiere", "puer", "teapot"];
    assert_eq!(by_price(Sort::Ascending("price".into())), ascending);
    assert_eq!(by_price(Sort::Descending("price".into())), ascending.iter().rev().map(|id| (*id).to_owned()).collect::<Vec<_>>());
    assert_eq!(by_price(Sort::Ascending("category".into())).last().unwrap(), "mug", "by the first of several values");

    let paged = |offset| shop.ids(&plugin, SearchQuery { offset, limit: 2, ..asking("") });
    let pages: Vec<String> = [0, 2, 4, 6].into_iter().flat_map(paged).collect();
    assert_eq!(pages, shop.ids(&plugin, asking("")), "pages neither repeat nor leave out");

    let counted = SearchQuery { facets: vec!["category".into()], limit: 0, ..asking("") };
    let results = shop.search.query(&plugin, "products", &counted).unwrap();
    assert_eq!((results.total, results.hits.len()), (5, 0));
    let counts: Vec<_> = results.facets[0].values.iter().map(|value| (value.value.as_str(), value.count)).collect();
    assert_eq!(counts, [("ware", 3), ("tea", 2), ("coffee", 1), ("gifts", 1)]);
}

#[tokio::test]
async fn hits_are_highlighted_and_typing_is_completed() {
    let (shop, plugin) = tea_shop().await;
    let query = SearchQuery { highlight: vec!["name".into(), "description".into()], ..asking("tea") };
    let results = shop.search.query(&plugin, "products", &query).unwrap();
    let puer = results.hits.iter().find(|hit| hit.id == "puer").unwrap();
    assert_eq!(puer.highlights[0].1, "普洱茶饼 Pu&#39;er <mark>Tea</mark> Cake");
    assert_eq!(puer.highlights[1].1, "Aged &amp; earthy &lt;b&gt;<mark>tea</mark>&lt;/b&gt;");

    let suggest = |prefix: &str| shop.search.suggest(&plugin, "products", prefix, 20).unwrap();
    assert_eq!(suggest("CER"), ["陶瓷马克杯 Ceramic Mug"]);
    assert_eq!(suggest("高山"), ["高山乌龙茶 Mountain Oolong Tea"]);
    assert_eq!(suggest("茶壶"), ["紫砂茶壶 Clay Teapot"]);
    assert_eq!(suggest("mountain ool"), ["高山乌龙茶 Mountain Oolong Tea"]);
    assert_eq!(suggest("tea").len(), 3);
    assert!(suggest("").is_empty() && suggest("zzz").is_empty());

    let gone = shop.commit(&plugin, vec![("mug", None)]).await;
    shop.search.followed(gone).await;
    assert!(shop.search.suggest(&plugin, "products", "cer", 20).unwrap().is_empty());
}

#[tokio::test]
async fn mistakes_in_queries_and_documents_are_named() {
    let (shop, plugin) = tea_shop().await;
    let refused = |query: SearchQuery| matches!(shop.search.query(&plugin, "products", &query), Err(Error::Invalid(_)));
    assert!(refused(SearchQuery { limit: LIMIT_MAX + 1, ..asking("") }));
    assert!(refused(SearchQuery { offset: u32::MAX, ..asking("") }));
    assert!(refused(SearchQuery { facets: vec!["name".into()], ..asking("") }));
    assert!(refused(SearchQuery { sort: Sort::Ascending("name".into()), ..asking("") }));
    assert!(refused(SearchQuery { fields: vec!["colour".into()], ..asking("") }));
    assert!(refused(SearchQuery { filters: vec![any_of("price", &["cheap"])], ..asking("") }));
    assert!(matches!(shop.search.query(&plugin, "orders", &asking("")), Err(Error::Invalid(_))));

    let definition = &plugin.manifest.indexes[0];
    let one = |name: &str, value| vec![Field { name: name.into(), value }];
    assert!(document(definition, one("price", GuestValue::Text("12".into()))).is_err());
    assert!(document(definition, one("name", GuestValue::Number(12))).is_err());
    assert!(document(definition, one("colour", GuestValue::Text("red".into()))).is_err());
    assert!(document(definition, one("category", GuestValue::Text("x".repeat(KEYWORD_BYTES_MAX + 1)))).is_err());
    assert!(document(definition, one("name", GuestValue::Text("x".repeat(DOCUMENT_BYTES_MAX + 1)))).is_err());
    assert!(check_id("a\0b").is_err() && check_id("").is_err() && check_id("a").is_ok());
}

#[tokio::test]
async fn changes_replace_and_delete_and_the_log_does_not_grow() {
    let (shop, plugin) = tea_shop().await;
    shop.put(&plugin, vec![("mug", product("Enamel Cup", "", "ware", 1))]).await;
    assert!(shop.found(&plugin, "ceramic").is_empty());
    assert_eq!(shop.found(&plugin, "enamel"), ["mug"]);
    let seq = shop.commit(&plugin, vec![("mug", None), ("puer", None)]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&plugin, ""), ["cafetiere", "oolong", "teapot"]);
    shop.settled().await;
    assert_eq!(shop.log_length(), 0);
}

#[tokio::test]
async fn plugins_do_not_find_each_others_documents() {
    let (a, b) = (plugin("a", FIELDS), plugin("b", FIELDS));
    let shop = Shop::open(&[&a, &b]).await;
    shop.put(&a, vec![("one", product("Tea", "", "tea", 1))]).await;
    assert_eq!(shop.found(&a, "tea"), ["one"]);
    assert!(shop.found(&b, "tea").is_empty());
}

#[tokio::test]
async fn what_was_committed_while_nobody_followed_is_caught_up() {
    let (shop, plugin) = tea_shop().await;
    shop.search.stop().await;
    let seq = shop.commit(&plugin, vec![("late", Some(product("Latecomer", "", "tea", 1))), ("mug", None)]).await;
    let shop = shop.restart(&[&plugin]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&plugin, "latecomer"), ["late"]);
    assert!(shop.found(&plugin, "ceramic").is_empty());
}

#[tokio::test]
async fn an_index_that_is_lost_damaged_or_of_another_store_is_built_again() {
    let (shop, plugin) = tea_shop().await;
    shop.settled().await;
    let mut shop = shop;
    let old = tempfile::tempdir().unwrap();
    let products = |shop: &Shop| shop.folder.path().join("search/catalog/products");
    copy(&products(&shop), old.path());
    shop.put(&plugin, vec![("new", product("Newcomer", "", "tea", 1))]).await;
    shop.settled().await;

    let damages: [(&str, Box<dyn Fn(&Path)>); 4] = [
        ("lost", Box::new(|folder| std::fs::remove_dir_all(folder).unwrap())),
        ("nonsense", Box::new(|folder| std::fs::write(folder.join("meta.json"), "{").unwrap())),
        ("truncated", Box::new(|folder| each_segment_file(folder, |bytes| bytes.truncate(bytes.len() / 2)))),
        ("an old copy", Box::new(|folder| {
            std::fs::remove_dir_all(folder).unwrap();
            copy(old.path(), folder);
        })),
    ];
    for (what, damage) in damages {
        shop.search.stop().await;
        damage(&products(&shop));
        shop = shop.restart(&[&plugin]).await;
        let seq = shop.commit(&plugin, vec![("sign", Some(product("Sign", what, "tea", 1)))]).await;
        shop.search.followed(seq).await;
        assert_eq!(shop.found(&plugin, "").len(), 7, "{what}");
        assert_eq!(shop.found(&plugin, "newcomer"), ["new"], "{what}");
        shop.settled().await;
    }

    // The store was replaced by an emptier one.
    shop.search.stop().await;
    let empty = Store::open(&shop.folder.path().join("other"), EngineKind::Fjall).unwrap();
    let shop = Shop::open_on(shop.folder, empty, &[&plugin]).await;
    let seq = shop.commit(&plugin, vec![("only", Some(product("Only", "", "tea", 1)))]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&plugin, ""), ["only"]);
}

#[tokio::test]
async fn flipped_bits_are_found_by_their_checksum() {
    let (shop, plugin) = tea_shop().await;
    shop.settled().await;
    shop.search.stop().await;
    each_segment_file(&shop.folder.path().join("search/catalog/products"), |bytes| {
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0x55;
    });
    let shop = shop.restart(&[&plugin]).await;
    let seq = shop.commit(&plugin, vec![("sign", Some(product("Sign", "", "tea", 1)))]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&plugin, "").len(), 6);
    assert_eq!(shop.found(&plugin, "oolong"), ["oolong", "teapot"]);
}

#[tokio::test]
async fn other_fields_or_a_wish_rebuild_from_the_documents() {
    let (shop, old) = tea_shop().await;
    assert_eq!(shop.search.rebuild_all(None, Some("products")), 1);
    let new = plugin("catalog", &FIELDS.replace("name = \"category\", kind = \"keyword\"", "name = \"category\", kind = \"text\""));
    shop.live.send_replace(live(&[&new]));
    let seq = shop.commit(&new, vec![("sign", Some(product("Sign", "", "coffee", 1)))]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&new, "coffee"), ["cafetiere", "mug", "sign"], "keywords have become words");
    let facets = SearchQuery { facets: vec!["category".into()], ..asking("") };
    assert!(matches!(shop.search.query(&new, "products", &facets), Err(Error::Invalid(_))));
    drop(old);

    shop.live.send_replace(live(&[]));
    let seq = shop.commit(&new, vec![("away", Some(product("Away", "", "tea", 1)))]).await;
    shop.search.followed(seq).await;
    assert!(matches!(shop.search.query(&new, "products", &asking("")), Err(Error::Unavailable(_))));
    shop.live.send_replace(live(&[&new]));
    let seq = shop.commit(&new, vec![("back", Some(product("Back", "", "tea", 1)))]).await;
    shop.search.followed(seq).await;
    assert_eq!(shop.found(&new, "away"), ["away"], "what changed while the plugin was not live");
}

#[tokio::test]
async fn until_it_is_built_again_the_index_of_before_answers_what_it_can() {
    let (shop, _) = tea_shop().await;
    shop.settled().await;
    shop.search.stop().await;
    let new = plugin("catalog", &FIELDS.replace("name = \"category\", kind = \"keyword\"", "name = \"category\", kind = \"text\""));
    let open = || {
        let search = Search::new(&shop.folder.path().join("search"), shop.store.clone(), Vec::new());
        search.open_all(&indexer::definitions(&live(&[&new])));
        search
    };
    let search = open();
    let found = |query: &SearchQuery| search.query(&new, "products", query).map(|found| found.total);
    assert_eq!(found(&asking("oolong")).unwrap(), 2);
    let by_new_field = SearchQuery { fields: vec!["category".into()], ..asking("tea") };
    assert!(matches!(found(&by_new_field), Err(Error::Unavailable(_))));

    std::fs::remove_dir_all(shop.folder.path().join("search")).unwrap();
    let search = open();
    assert!(matches!(search.query(&new, "products", &asking("oolong")), Err(Error::Unavailable(_))));
    assert!(matches!(search.suggest(&new, "products", "oo", 5), Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_plugin_over_its_share_is_followed_after_the_others_and_in_slices() {
    let (greedy, other) = (plugin("catalog", FIELDS), plugin("notes", FIELDS));
    let account = Arc::new(Account::default());
    let set_share = |percent| account.set_share("catalog", percent, crate::engine::Capacity { processors: 2, instances: 50 });
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("documents"), EngineKind::Fjall).unwrap();
    let search = Arc::new(Search::new(&folder.path().join("search"), store.clone(), Vec::new()));
    let payer = account.clone();
    let _ = search.payers.set(Box::new(move |name: &str| (name == "catalog" && payer.is_limited()).then(|| payer.clone())));
    let live = watch::Sender::new(live(&[&greedy, &other]));
    let shop = Shop { folder, store, search, live };
    let mut after = [0; 12];
    let mut catch_up = async || shop.search.clone().catch_up(indexer::definitions(&shop.live.borrow().clone()), &mut after).await.unwrap();
    assert!(!catch_up().await);

    set_share(20);
    let ids: Vec<String> = (0..250).map(|n| format!("{n:03}")).collect();
    let many = ids.iter().map(|id| (id.as_str(), Some(product("Oolong", "", "tea", 1)))).collect();
    shop.commit(&greedy, many).await;
    shop.commit(&other, vec![("one", Some(product("Oolong", "", "tea", 1)))]).await;
    assert!(catch_up().await);
    assert_eq!((shop.log_length(), shop.found(&other, "oolong").len()), (150, 1));

    // For 250 s.
    account.charge_apart(std::time::Duration::from_secs(100));
    shop.commit(&other, vec![("two", Some(product("Oolong", "", "tea", 1)))]).await;
    assert!(catch_up().await);
    assert_eq!((shop.log_length(), shop.found(&other, "oolong").len()), (150, 2));

    set_share(100);
    assert!(!catch_up().await);
    let all = SearchQuery { limit: 1, ..asking("oolong") };
    assert_eq!((shop.log_length(), shop.search.query(&greedy, "products", &all).unwrap().total), (0, 250));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn each_segment_file(folder: &Path, change: impl Fn(&mut Vec<u8>)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "json" && extension != "lock") {
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}
