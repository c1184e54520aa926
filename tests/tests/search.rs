//! Search over HTTP, and after accidents to its index.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use souk_tests::Shop;
use souk_tests::api::{Api, INSTANT};
use souk_tests::wire::escaped;

async fn find(api: &Api, query: &str) -> Value {
    let (status, found) = api.send("GET", &format!("/search?{query}"), Value::Null).await;
    assert_eq!(status, 200, "{found}");
    found
}

/// Asks until the index has caught up.
async fn until_found(api: &Api, query: &str, total: &Value) {
    for _ in 0..600 {
        let (status, found) = api.send("GET", &format!("/search?{query}"), Value::Null).await;
        assert!([200, 503].contains(&status), "{status} {found}");
        if found["total"] == *total {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{query} never finds {total}");
}

fn handles(found: &Value) -> Vec<&str> {
    found["products"].as_array().unwrap().iter().map(|product| product["handle"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn products_are_found_by_words_of_two_languages_mistakes_and_beginnings() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let (_, all) = api.send("GET", "/products?limit=1", Value::Null).await;
    until_found(&api, "limit=1", &all["total"]).await;

    let tea = find(&api, "q=longjing").await;
    let handle = handles(&tea)[0].to_owned();
    assert_eq!((tea["total"].as_u64(), &tea["corrected"]), (Some(1), &json!(false)), "{tea}");
    for (query, corrected) in [("q=%E9%BE%99%E4%BA%95", false), ("q=longj", false), ("q=lonjging", true)] {
        let found = find(&api, query).await;
        assert!(handles(&found).contains(&handle.as_str()), "{query}: {found}");
        assert_eq!(found["corrected"], corrected, "{query}");
    }
    assert_eq!(find(&api, "q=qqqqzzzz").await["total"], 0);
    let (_, words) = api.send("GET", "/suggest?q=long", Value::Null).await;
    assert!(words.as_array().unwrap().iter().any(|word| word.as_str().unwrap().contains("Longjing")), "{words}");

    // Colours and categories complete what is typed, too.
    let (_, words) = api.send("GET", "/suggest?q=teal", Value::Null).await;
    assert!(words.as_array().unwrap().iter().any(|word| word.as_str().unwrap().eq_ignore_ascii_case("teal")), "{words}");

    // A facet's count is what its filter finds.
    let found = find(&api, "q=tea&limit=200").await;
    for (facet, field) in [("categories", "category"), ("brands", "brand")] {
        let value = &found[facet][0];
        let filter = format!("q=tea&{field}={}", value["value"].as_str().unwrap().replace(' ', "%20").replace('&', "%26"));
        assert_eq!(find(&api, &filter).await["total"], value["count"], "{filter}");
    }
    let cheap = find(&api, "price-max=2000&sort=-price&limit=200").await;
    let prices: Vec<i64> = cheap["products"].as_array().unwrap().iter().map(|product| product["price_min"]["amount"].as_i64().unwrap()).collect();
    assert!(!prices.is_empty() && prices.iter().all(|price| *price <= 2_000) && prices.is_sorted_by(|a, b| a >= b), "{prices:?}");

    // A product is within a span of prices when one of its variants is.
    let (done, said) = shop.says(&["plugin", "run", "reindex"]);
    assert!(done, "{said}");
    let mut gap = None;
    for handle in handles(&find(&api, "limit=200").await) {
        let (_, product) = api.send("GET", &format!("/products/{handle}"), Value::Null).await;
        let mut prices: Vec<i64> = product["variants"].as_array().unwrap().iter().map(|variant| variant["price"]["amount"].as_i64().unwrap()).collect();
        prices.sort_unstable();
        gap = gap.or_else(|| prices.windows(2).find(|pair| pair[1] - pair[0] > 2).map(|pair| (handle.to_owned(), pair[0], pair[1])));
    }
    let (handle, low, high) = gap.expect("a product with variants of different prices");
    let within = async |min: i64, max: i64| handles(&find(&api, &format!("price-min={min}&price-max={max}&limit=200")).await).contains(&handle.as_str());
    // The index follows what was put into it.
    for _ in 0..600 {
        if within(low, low).await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(within(low, low).await && within(low + 1, high).await && !within(low + 1, high - 1).await, "{handle}: {low} to {high}");
    let (status, problem) = api.send("GET", "/search?price-min=5&price-max=4", Value::Null).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("price-max")), "{problem}");
    let page = async |query: &str| api.http.get(format!("{}/en/search?{query}", shop.url)).send().await.unwrap().text().await.unwrap();
    assert!(page("price-min=abc").await.contains("12.50"), "what is no price is told");
    assert_eq!(page("price-min=99&price-max=12.5").await.matches("id=\"price-error\"").count(), 0);

    for (path, word) in [("/en/search?q=longjing", "Longjing"), ("/zh/search?q=longjing", "龙井")] {
        let page = api.http.get(format!("{}{path}", shop.url)).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains(word), "{path}");
    }
}

#[tokio::test]
async fn an_index_that_is_lost_or_behind_catches_up_by_itself() {
    let shop = Shop::open();
    let (_, all) = Api::of(&shop).send("GET", "/products?limit=1", Value::Null).await;
    // In the middle of indexing, most likely.
    let folder = shop.kill();
    let shop = Shop::serve(folder);
    until_found(&Api::of(&shop), "limit=1", &all["total"]).await;
    let folder = shop.kill();
    let index = folder.path().join("store/data/search");
    assert!(index.is_dir());
    fs::remove_dir_all(&index).unwrap();
    let shop = Shop::serve(folder);
    until_found(&Api::of(&shop), "q=longjing", &json!(1)).await;
    until_found(&Api::of(&shop), "limit=1", &all["total"]).await;
}

/// Where the next index would be built lies what cannot be written to.
struct Hindrance(std::path::PathBuf);

impl Hindrance {
    fn lay(store: &Path) -> Self {
        let folder = store.join("data/search/search");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("products.new");
        fs::write(&path, "").unwrap();
        Self(path)
    }

    fn take_away(self) {
        fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test]
async fn while_the_first_index_is_built_search_says_so_and_the_rest_of_the_shop_works() {
    let folder = souk_tests::store();
    let store = folder.path().join("store");
    let _ = fs::remove_dir_all(store.join("data/search"));
    let hindrance = Hindrance::lay(&store);
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    for (path, says) in [
        ("/api/v1/search?q=tea", "The search is being prepared"),
        ("/api/v1/suggest?q=tea", "The search is being prepared"),
        ("/en/search?q=tea", "The search is being prepared"),
        ("/zh/search?q=tea", "搜索功能正在准备中"),
    ] {
        let answer = api.http.get(format!("{}{path}", shop.url)).header("accept-language", "en").send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), header("cache-control").as_deref()), (503, Some("no-store")), "{path}");
        assert!(header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0)), "{path}");
        let body = answer.text().await.unwrap();
        assert!(body.contains(says), "{path}: {body}");
    }
    let (sku, _) = api.buyable(1).await;
    let (cart, _) = api.cart(&sku, 1).await.unwrap();
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
    assert_eq!(api.http.get(format!("{}/en/products", shop.url)).send().await.unwrap().status(), 200);

    hindrance.take_away();
    until_found(&api, "q=longjing", &json!(1)).await;
    let page = api.http.get(format!("{}/en/search?q=longjing", shop.url)).send().await.unwrap();
    assert_eq!(page.status(), 200, "the page that said so was not kept");
}

#[tokio::test]
async fn while_an_index_is_built_again_the_one_before_answers() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    until_found(&api, "q=longjing", &json!(1)).await;
    let folder = shop.kill();
    // The next version indexes something else.
    let manifest = folder.path().join("store/plugins/search/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let changed = text.replace("boost = 2.0", "boost = 3.0");
    assert_ne!(changed, text);
    fs::write(&manifest, changed).unwrap();
    souk_tests::grant(&folder, "search");
    let hindrance = Hindrance::lay(&folder.path().join("store"));
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    assert_eq!(find(&api, "q=longjing").await["total"], 1);
    hindrance.take_away();
}

/// Products of a file from elsewhere, beside the shop's own.
const IMPORTED: &str = "Handle,Title,Body (HTML),Variant SKU,Variant Price,Variant Inventory Qty
p-1,Lunch box,,PX-1,1.00,5
p-2,Bread knife,,PX-2,1.00,5
p-3,Pocket watch,,PX-3,1.00,5
p-4,Sour cherry jam,,PX-4,1.00,5
p-5,Women's rain jacket,,PX-5,1.00,5
p-6,Womens wool socks,,PX-6,1.00,5
p-7,Wi-Fi smart plug,,PX-7,1.00,5
p-8,WiFi router,,PX-8,1.00,5
p-9,Wi Fi weather station,,PX-9,1.00,5
p-10,Bookshelves of oak,,PX-10,1.00,5
p-11,凍頂烏龍茶,,PX-11,1.00,5
p-12,蓝牙耳机,,PX-12,1.00,5
p-13,实木椅子,,PX-13,1.00,5
p-14,Quokka figurine,,PX-14,1.00,5
p-15,Teal wall paint,,PX-15,1.00,5
";

const TEAS: &[&str] = &[
    "longjing-green-tea",
    "jasmine-pearls",
    "rose-black-tea",
    "mint-herbal-tea",
    "hibiscus-tea",
    "aged-puer-cake",
    "white-peony-tea",
    "milk-tea-kit",
];
const BOXES: &[&str] = &["p-1", "gift-box-wrap", "kraft-parcel-boxes", "card-index-box", "bento-box", "picnic-takeout-box"];
const WIFI: &[&str] = &["p-7", "p-8", "p-9"];
const WOMEN: &[&str] = &["p-5", "p-6"];
const CHAIRS: &[&str] = &["spindle-chair", "p-13"];

/// What is typed, what has to be found, and what must not be.
const RECALL: &[(&str, &[&str], &[&str])] = &[
    ("绿茶", &["longjing-green-tea"], &["spindle-chair"]),
    ("綠茶", &["longjing-green-tea"], &[]),
    ("茶叶", TEAS, &["spindle-chair"]),
    ("椅子", &["spindle-chair", "carousel-horse", "p-13"], &["kitchen-knife", "baseball-cap"]),
    ("帽子", &["baseball-cap", "straw-sunhat"], &["spindle-chair"]),
    ("龍井", &["longjing-green-tea"], &["rose-black-tea"]),
    ("龙井茶", &["longjing-green-tea"], &["rose-black-tea"]),
    ("乌龙茶", &["p-11"], &["rose-black-tea"]),
    ("冻顶乌龙", &["p-11"], &[]),
    ("longjing cha", &["longjing-green-tea"], &["spindle-chair"]),
    ("longjing", &["longjing-green-tea"], &["rose-black-tea"]),
    ("lóngjǐng chá", &["longjing-green-tea"], &[]),
    ("long2jing3", &["longjing-green-tea"], &[]),
    ("lvcha", &["longjing-green-tea"], &["spindle-chair"]),
    ("lücha", &["longjing-green-tea"], &[]),
    ("lv cha", &["longjing-green-tea"], &[]),
    ("wulongcha", &["p-11"], &["longjing-green-tea"]),
    ("lan ya erji", &["p-12"], &["p-11"]),
    ("yizi", &["p-13"], &["baseball-cap"]),
    ("teas", TEAS, &["spindle-chair"]),
    // Sent, so it is not the beginning of `teal`; `teal` is, where nothing else fits.
    ("tea", TEAS, &["spindle-chair", "kitchen-knife", "p-15"]),
    ("teal", &["p-15"], TEAS),
    ("teal wal", &["p-15"], TEAS),
    ("chairs", &["spindle-chair"], &["baseball-cap"]),
    ("chair", &["spindle-chair"], &["baseball-cap"]),
    ("boxes", BOXES, &["baseball-cap"]),
    ("box", BOXES, &["baseball-cap"]),
    ("knives", &["kitchen-knife", "cutlery-set", "p-2"], &["spindle-chair", "p-1"]),
    ("knife", &["kitchen-knife", "cutlery-set", "p-2"], &["spindle-chair", "p-1"]),
    ("watches", &["everyday-watch", "p-3"], &["kitchen-knife"]),
    ("watch", &["everyday-watch", "p-3"], &["kitchen-knife"]),
    ("cherries", &["dark-cherries", "blossom-branches", "p-4"], &["kitchen-knife"]),
    ("cherry", &["dark-cherries", "blossom-branches", "p-4"], &["kitchen-knife"]),
    ("women's", WOMEN, &["kitchen-knife"]),
    ("women’s", WOMEN, &[]),
    ("womens", WOMEN, &[]),
    ("women", WOMEN, &[]),
    ("woman", WOMEN, &[]),
    ("wifi", WIFI, &["p-12"]),
    ("wi-fi", WIFI, &[]),
    ("wi fi", WIFI, &[]),
    ("bookshelf", &["p-10"], &[]),
    ("book shelf", &["p-10"], &[]),
    ("toolbox", &["steel-toolbox"], &["p-1"]),
    ("tool boxes", &["steel-toolbox"], &["p-1"]),
    ("tea pots", &["round-teapot"], &[]),
    ("straw hats", &["straw-sunhat"], &["baseball-cap"]),
    ("glasses", &["wine-glasses", "rocks-tumbler", "tropical-tumbler"], &["kitchen-knife"]),
    ("brushes", &["watercolour-brush"], &[]),
    ("watercolor brush", &["watercolour-brush"], &[]),
    ("puer", &["aged-puer-cake"], &["rose-black-tea"]),
    // By category, attribute and option.
    ("cookware knife", &["kitchen-knife"], &["cutlery-set"]),
    ("raffia hat", &["straw-sunhat"], &["baseball-cap"]),
    ("棒球帽 燕麦色", &["baseball-cap"], &["straw-sunhat"]),
    ("家具", CHAIRS_AND_FURNITURE, &["rose-black-tea"]),
];
const CHAIRS_AND_FURNITURE: &[&str] = &["spindle-chair", "petal-wall-mirror"];

/// Handles of all hits, best first, for a shopper of this language; none where they are a guess.
async fn hits(api: &Api, words: &str, language: &str) -> Vec<String> {
    let url = format!("{}/search?q={}&limit=200", api.url(), escaped(words));
    let answer = api.http.get(url).header("accept-language", language).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{words}");
    let found: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    if found["corrected"] == true { Vec::new() } else { handles(&found).into_iter().map(str::to_owned).collect() }
}

#[tokio::test]
async fn search_recall_words() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let file = shop.folder().join("imported.csv");
    fs::write(&file, IMPORTED).unwrap();
    let imported = shop.souk(&["store", "import", file.to_str().unwrap()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stdout));
    let (_, all) = api.send("GET", "/products?limit=1", Value::Null).await;
    until_found(&api, "limit=1", &all["total"]).await;
    until_found(&api, "q=quokka", &json!(1)).await;

    let mut wrong = Vec::new();
    for language in ["en", "zh-CN"] {
        for (words, wanted, unwanted) in RECALL {
            let found = hits(&api, words, language).await;
            let has = |handle: &&&str| found.iter().any(|it| it == **handle);
            let missed: Vec<_> = wanted.iter().filter(|handle| !has(handle)).collect();
            let extra: Vec<_> = unwanted.iter().filter(has).collect();
            if !missed.is_empty() || !extra.is_empty() {
                wrong.push(format!("{language} {words:?}: without {missed:?}, with {extra:?}, of {found:?}"));
            }
        }
        // What it is called comes before what mentions it, and no word finds half the shop.
        for (words, first, most) in [("tea", TEAS, 60), ("knife", &["kitchen-knife", "p-2"][..], 12), ("wifi", WIFI, 3), ("椅子", CHAIRS, 12), ("龙井", &["longjing-green-tea"], 3)] {
            let found = hits(&api, words, language).await;
            let leads = found.first().is_some_and(|best| first.contains(&best.as_str()));
            if !leads || found.len() > most {
                wrong.push(format!("{language} {words:?}: {} hits, {:?} first", found.len(), found.iter().take(5).collect::<Vec<_>>()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for (typed, completion) in [("knives", "Bread knife"), ("wifi", "Wi-Fi smart plug"), ("wi fi", "WiFi router"), ("longj", "雨前龙井"), ("凍頂", "凍頂烏龍茶"), ("冻顶", "凍頂烏龍茶"), ("womens r", "Women's rain jacket"), ("cherry", "Dark Sweet Cherries")] {
        let answer = api.http.get(format!("{}/suggest?q={}&limit=20", api.url(), escaped(typed))).send().await.unwrap();
        let words = answer.text().await.unwrap();
        assert!(words.contains(completion), "{typed:?} is not completed to {completion:?}: {words}");
    }
}

#[tokio::test]
async fn an_index_of_another_analysis_answers_until_it_is_built_again_by_itself() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    until_found(&api, "q=longjing", &json!(1)).await;
    let folder = shop.kill();
    let meta = folder.path().join("store/data/search/search/products/meta.json");
    // None while one index takes the place of the other.
    let made_by = || {
        let meta: Value = serde_json::from_str(&fs::read_to_string(&meta).ok()?).ok()?;
        let payload: Value = serde_json::from_str(meta["payload"].as_str()?).ok()?;
        payload["analysis"].as_str().map(str::to_owned)
    };
    let before = made_by();
    assert!(before.is_some());
    // The shop's dictionary is part of it.
    let words = folder.path().join("store/dictionaries/zh.txt");
    fs::write(&words, fs::read_to_string(&words).unwrap() + "no word\n生津止渴茶\n").unwrap();
    let hindrance = Hindrance::lay(&folder.path().join("store"));
    let shop = Shop::serve(folder);
    let api = Api::of(&shop);
    assert_eq!(find(&api, "q=longjing").await["total"], 1);
    assert_eq!(made_by(), before);
    hindrance.take_away();
    souk_tests::until(|| made_by().is_some_and(|now| Some(now) != before)).await;
    assert_eq!(find(&api, "q=longjing").await["total"], 1);
}

/// Products are found by the name of their category: by the new one once it has got another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_category_that_was_renamed_is_found_by_its_new_name() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    // From when there is an index.
    until_found(&api, "q=brewables", &json!(0)).await;
    let text = std::fs::read_to_string(souk_tests::root().join("store-data/catalogue/categories.json")).unwrap();
    let categories: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut tea = categories.into_iter().find(|category| category["handle"] == "tea").unwrap();
    tea["name"]["en"] = "Brewables".into();
    let file = shop.folder().join("renamed.json");
    std::fs::write(&file, serde_json::json!({ "categories": [tea], "products": [] }).to_string()).unwrap();
    let (imported, said) = shop.says(&["store", "import", file.to_str().unwrap(), "--kind", "catalogue"]);
    assert!(imported && said.contains("categories  0 new, 1 changed"), "{said}");
    let listed: Value = api.send("GET", "/products?category=tea&limit=1", Value::Null).await.1;
    until_found(&api, "q=brewables", &listed["total"]).await;
    let page = souk_tests::client().get(format!("{}/en/c/tea", shop.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Brewables"), "the page that was kept is gone");
}
