//! Products from CSV files into a live shop and out again.

use std::fs;

use serde_json::{Value, json};
use souk_tests::api::{Api, INSTANT};
use souk_tests::{Shop, client, store_of};

/// Writes a file and imports it: the exit code and what was said.
fn import(shop: &Shop, file: impl AsRef<[u8]>, more: &[&str]) -> (i32, String) {
    let path = shop.folder().join("import.csv");
    fs::write(&path, file).unwrap();
    let output = shop.souk(&[&["store", "import", path.to_str().unwrap()], more].concat());
    (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn imported(shop: &Shop, file: impl AsRef<[u8]>) -> String {
    let (code, said) = import(shop, file, &[]);
    assert_eq!(code, 0, "{said}");
    said
}

async fn product(api: &Api, handle: &str) -> Option<Value> {
    let (status, product) = api.send("GET", &format!("/products/{handle}"), Value::Null).await;
    (status == 200).then_some(product)
}

async fn page(shop: &Shop, path: &str) -> (u16, String) {
    let answer = client().get(format!("{}{path}", shop.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn variants(product: &Value) -> Vec<(&str, &str)> {
    product["variants"].as_array().unwrap().iter().map(|variant| (variant["sku"].as_str().unwrap(), variant["title"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn what_is_right_goes_in_and_what_is_not_comes_back_as_a_file() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let header = "Handle,Title,Body (HTML),Vendor,Type,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Qty,Variant Price,Image Src,Status";
    let mixed = format!(
        "{header}\r\nnew-cup,Cup,\"<p>Holds\r\ntea.</p>\",Kiln,Cups,Size,S,CUP-S,5,12.50,,active\r\nnew-cup,,,,,,L,CUP-L,7,18,,\r\n\
         new-jar,Jar,,,Cups,,,JAR-1,many,9,,active\r\ncopper-kettle,Copper kettle,,,Cups,,,CK-1,3,,,\r\nfree-card,Card,,,Cups,,,FC-1,3,0,,\r\n,,,,,,,,,,,\r\n"
    );
    let (code, said) = import(&shop, &mixed, &["--all-or-nothing"]);
    assert!(code == 1 && said.contains("nothing was imported") && !said.contains("dry run") && product(&api, "new-cup").await.is_none(), "{said}");
    let (code, said) = import(&shop, &mixed, &["--dry-run"]);
    assert!(code == 2 && said.contains("(dry run):") && product(&api, "new-cup").await.is_none(), "{said}");

    let rejects = shop.folder().join("rejects.csv");
    let (code, said) = import(&shop, &mixed, &["--rejects", rejects.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("import-products:\n  products    2 new, 0 changed, 0 unchanged, 2 rejected\n  categories  1 new"), "{said}");
    assert!(said.contains("line 5: new-jar: refused") && said.contains("`many` is not a quantity") && said.contains("line 6: Price: there is no price"), "{said}");
    let cup = product(&api, "new-cup").await.unwrap();
    assert_eq!((&cup["title"], &cup["category"], &cup["description"], &cup["variants"][1]["price"]["amount"]), (&json!("Cup"), &json!("cups"), &json!("Holds tea."), &json!(1_800)), "{cup}");
    assert_eq!((api.available("CUP-S").await, api.available("CUP-L").await), (5, 7));
    assert!(product(&api, "copper-kettle").await.is_none(), "an empty price is no price");
    assert_eq!(product(&api, "free-card").await.unwrap()["variants"][0]["price"]["amount"], 0, "a price of 0 is a gift");

    let text = fs::read_to_string(&rejects).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("Why it was rejected") && text.contains("there is no price"), "{text}");
    let said = imported(&shop, text.replace(",many,9,", ",4,9,").replace(",CK-1,3,,", ",CK-1,3,30.00,"));
    assert!(said.contains("products    2 new, 0 changed, 0 unchanged, 0 rejected"), "{said}");
    assert_eq!(api.available("JAR-1").await, 4);

    let (code, said) = import(&shop, format!("{header}\nbad,Bad,,,,,,B-1,1,cheap,,\n"), &[]);
    assert!(code == 1 && said.contains("nothing was imported"), "{said}");
}

/// Every row that is lawful where it comes from goes in, in every dress that spreadsheets give it.
#[tokio::test]
async fn import_any_shopify() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let wide = |text: &str| [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let plain = |text: &str| text.as_bytes().to_vec();
    let long = "hand-made-walnut-board-".repeat(11) + "xx";
    assert_eq!(long.len(), 255);
    let header = "Handle,Title,Variant SKU,Variant Price,Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy";
    // The file, a product that is then there, its sku, and how many can be had.
    let cases: Vec<(&str, Vec<u8>, &str, &str, i64)> = vec![
        ("a byte order mark", plain("\u{feff}Handle,Title,SKU,Price,Inventory quantity\nbom,Bom,BOM,1,4\n"), "bom", "BOM", 4),
        ("semicolons and decimal commas", plain("Handle;Title;SKU;Price;Inventory quantity\r\nsemi;Semi;SEMI;1,50;4\r\n;;;;\r\n"), "semi", "SEMI", 4),
        ("tabs", plain("Handle\tTitle\tSKU\tPrice\tInventory quantity\ntab\tTab, with comma\tTAB\t1\t4\n"), "tab", "TAB", 4),
        ("sep=", plain("sep=;\r\nHandle;Title;SKU;Price;Inventory quantity\r\nsep;Sep;SEP;1;4\r\n"), "sep", "SEP", 4),
        ("UTF-16", wide("Handle\tTitle\tSKU\tPrice\tInventory quantity\r\nwide\t宽\tWIDE\t1\t4\r\n"), "wide", "WIDE", 4),
        ("GB18030", b"Handle,Title,SKU,Price,Inventory quantity\r\ngbk,\xc2\xcc\xb2\xe8,GBK,1,4\r\n".to_vec(), "gbk", "GBK", 4),
        ("negative stock", plain(&format!("{header}\nowed,Owed,OWED,1,shopify,-2,deny\n")), "owed", "OWED", -2),
        ("untracked stock", plain(&format!("{header}\nuntracked,U,UNTRACKED,1,,0,deny\n")), "untracked", "UNTRACKED", 1_000_000),
        ("sold beyond the stock", plain(&format!("{header}\nbeyond,B,BEYOND,1,shopify,1,continue\n")), "beyond", "BEYOND", 1_000_000),
        ("a handle of 255", plain(&format!("{header}\n{long},Long,LONG,1,shopify,4,deny\n")), &long, "LONG", 4),
        ("a handle in capitals", plain(&format!("{header}\nGreen-TEA,Tea,CAP,1,shopify,4,deny\n")), "green-tea", "CAP", 4),
        ("a handle of another script", plain(&format!("{header}\n龙井-绿茶,龙井,HAN,1,shopify,4,deny\n")), "龙井-绿茶", "HAN", 4),
        ("a blank sku", plain(&format!("{header}\nblank,Blank,,1,shopify,4,deny\n")), "blank", "BLANK", 4),
        ("a sku with signs", plain(&format!("{header}\nsigns,Signs,PL+L&#%,1,shopify,4,deny\n")), "signs", "PL+L&#%", 4),
        ("trailing rows", plain(&format!("{header}\ntrail,Trail,TRAIL,1.00,shopify,4,deny\n,,,,,,\n\n,,,,,,\n")), "trail", "TRAIL", 4),
        ("both orders of rows", plain("Handle,Title,SKU,Price,Image Src,Image Position,Inventory quantity\npics,Pics,PICS,1,b.webp,2,4\npics,,,,a.webp,1,\n"), "pics", "PICS", 4),
        ("an apostrophe before a code", plain("Handle,Title,SKU,Price,Variant Barcode,Inventory quantity\ncode,Code,CODE,1,'0690123456789,4\n"), "code", "CODE", 4),
        ("no handle", plain("Title,SKU,Price,Inventory quantity\nOnly a title,TITLE,1,4\n"), "only-a-title", "TITLE", 4),
        ("a published one", plain("Handle,Title,SKU,Price,Published,Inventory quantity\npub,Pub,PUB,1,TRUE,4\n"), "pub", "PUB", 4),
    ];
    for (what, file, handle, sku, available) in &cases {
        let said = imported(&shop, file);
        assert!(said.contains("0 changed, 0 unchanged, 0 rejected"), "{what}: {said}");
        let product = product(&api, handle).await.unwrap_or_else(|| panic!("{what}: {said}"));
        assert_eq!(product["variants"][0]["sku"], **sku, "{what}: {product}");
        let (_, counts) = api.send("GET", &format!("/availability?sku={}", sku.replace('%', "%25").replace('+', "%2B").replace('&', "%26").replace('#', "%23")), Value::Null).await;
        assert_eq!(counts[0]["available"], *available, "{what}");
        let again = imported(&shop, file);
        assert!(again.contains("products    0 new, 0 changed, 1 unchanged, 0 rejected"), "{what}: {again}");
    }
    let titles = [product(&api, "gbk").await.unwrap(), product(&api, "wide").await.unwrap()].map(|product| product["title"].clone());
    assert_eq!(titles, [json!("绿茶"), json!("宽")]);
    assert_eq!(product(&api, "semi").await.unwrap()["variants"][0]["price"]["amount"], 150);
    assert_eq!(product(&api, "code").await.unwrap()["variants"][0]["barcode"], "0690123456789");
    let pictures = product(&api, "pics").await.unwrap();
    assert!(pictures["images"][0]["url"].as_str().unwrap().ends_with("a.webp"), "{pictures}");
    // More than there are are sold, and the page offers them.
    let (cart, _) = api.cart("BEYOND", 3).await.unwrap();
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
    let (status, html) = page(&shop, "/en/p/untracked").await;
    assert!(status == 200 && html.contains("schema.org/InStock"), "{html}");

    // Skus that are there twice, in one product and in two.
    let doubled = "Handle,Title,Option1 Name,Option1 Value,SKU,Price,Inventory quantity\ntee,Tee,Size,S,TEE,1,1\ntee,,,M,TEE,1,2\nmug,Mug,,,TEE,2,3\n";
    let said = imported(&shop, doubled);
    assert!(said.contains("2 new") && said.contains("is another variant's"), "{said}");
    let (tee, mug) = (product(&api, "tee").await.unwrap(), product(&api, "mug").await.unwrap());
    let skus: Vec<&str> = variants(&tee).into_iter().chain(variants(&mug)).map(|(sku, _)| sku).collect();
    assert_eq!((api.available(skus[0]).await, api.available(skus[1]).await, api.available(skus[2]).await), (1, 2, 3), "{skus:?}");
    assert!(imported(&shop, doubled).contains("2 unchanged"));

    let (code, said) = import(&shop, b"Handle,Title,Price\ncaf\xe9,Caf\xe9,1\n", &[]);
    assert!(code == 1 && said.contains("line 2") && said.contains("encoding"), "{said}");
    assert_eq!(import(&shop, b"Handle,Title,Price\ncafe,Caf\xe9,1\n", &["--encoding", "windows-1252"]).0, 0);
}

#[tokio::test]
async fn types_of_another_script_become_categories_with_addresses_of_their_own() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let file = "Handle,Title,Type,Variant SKU,Variant Price,Variant Inventory Qty\nclay-pot,陶壶,茶具,CP-1,30.00,5\nlinen-shirt,亚麻衬衫,汉服,LS-1,80.00,5\n";
    imported(&shop, file);
    for (handle, name) in [("clay-pot", "茶具"), ("linen-shirt", "汉服")] {
        let category = product(&api, handle).await.unwrap()["category"].as_str().unwrap().to_owned();
        let (_, listing) = api.send("GET", &format!("/products?category={category}"), Value::Null).await;
        assert_eq!((&listing["total"], &listing["products"][0]["handle"]), (&json!(1), &json!(handle)), "{listing}");
        let (status, html) = page(&shop, &format!("/zh/c/{category}")).await;
        assert!(status == 200 && html.contains(&format!("<h1>{name}</h1>")) && html.contains(&format!("/p/{handle}")), "{html}");
    }
    assert!(imported(&shop, file).contains("products    0 new, 0 changed, 2 unchanged, 0 rejected"));
}

#[tokio::test]
async fn an_archived_product_is_gone_everywhere_and_comes_back() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let file = |status: &str| format!("Handle,Title,Variant SKU,Variant Price,Variant Inventory Qty,Status\npine-shelf,Pine shelf,PS-1,90.00,4,{status}\n");
    imported(&shop, file("active"));
    let (ordered, _) = api.cart("PS-1", 1).await.unwrap();
    let (_, placed) = api.order(&ordered, INSTANT).await.unwrap();
    let (cart, _) = api.cart("PS-1", 1).await.unwrap();
    api.searchable("pine").await;
    let listed = async || api.send("GET", "/products?category=other", Value::Null).await.1["total"].clone();
    let in_sitemap = async || {
        let index = page(&shop, "/sitemap.xml").await.1;
        let mut maps = Vec::new();
        for map in index.split("<loc>").skip(1).filter_map(|rest| rest.split("</loc>").next()) {
            let path = map.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap();
            maps.push(page(&shop, path).await.1);
        }
        maps.iter().any(|map| map.contains("/p/pine-shelf"))
    };
    assert!(listed().await == json!(1) && in_sitemap().await);

    imported(&shop, file("archived"));
    assert_eq!(listed().await, json!(0));
    assert_eq!(api.send("GET", "/products/pine-shelf", Value::Null).await.0, 410);
    let (status, html) = page(&shop, "/en/p/pine-shelf").await;
    assert!(status == 410 && html.contains("No longer sold"), "{html}");
    assert!(!in_sitemap().await);
    let (_, found) = api.send("GET", "/search?q=pine", Value::Null).await;
    assert!(!found["products"].to_string().contains("pine-shelf"), "{found}");
    let (_, held) = api.send("GET", &cart, Value::Null).await;
    assert_eq!((&held["lines"][0]["title"], &held["lines"][0]["available"]), (&json!("Pine shelf"), &json!(0)), "{held}");
    let (status, refused) = api.order(&cart, INSTANT).await.unwrap();
    assert_eq!(status, 409, "{refused}");
    let (_, new) = api.send("POST", "/carts", Value::Null).await;
    let added = api.send("POST", &format!("/carts/{}/lines", new["id"].as_str().unwrap()), json!({ "sku": "PS-1", "quantity": 1 })).await;
    assert_eq!(added.0, 422, "{}", added.1);
    let order = api.settled(placed["token"].as_str().unwrap()).await;
    assert_eq!((&order["status"], &order["lines"][0]["title"]), (&json!("placed"), &json!("Pine shelf")));
    assert!(imported(&shop, file("archived")).contains("1 unchanged"));

    imported(&shop, file("unlisted"));
    assert!(product(&api, "pine-shelf").await.is_some() && listed().await == json!(0) && !in_sitemap().await);
    imported(&shop, file("active"));
    assert!(listed().await == json!(1) && in_sitemap().await && product(&api, "pine-shelf").await.is_some());
    api.searchable("pine").await;
    assert_eq!(api.order(&cart, INSTANT).await.unwrap().0, 201);
}

/// What the shopper agreed to is what is bought: a row that moves in a file changes nothing, and what does change is seen.
#[tokio::test]
async fn a_variant_without_a_sku_stays_what_it_is_and_a_change_of_it_is_agreed_to_anew() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let file = |values: &[&str]| {
        let row = |(place, value): (usize, &&str)| format!("vase,{},{},{value},,30.00,5\n", if place == 0 { "Vase" } else { "" }, if place == 0 { "Colour" } else { "" });
        format!("Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price,Variant Inventory Qty\n{}", values.iter().enumerate().map(row).collect::<String>())
    };
    imported(&shop, file(&["Blue", "Green"]));
    let vase = product(&api, "vase").await.unwrap();
    let blue = variants(&vase).into_iter().find(|(_, title)| *title == "Blue").unwrap().0.to_owned();
    let (cart, agreed) = api.cart(&blue, 1).await.unwrap();
    let said = imported(&shop, file(&["Green"]));
    assert!(said.contains("1 unchanged, 0 rejected"), "{said}");
    let (_, seen) = api.send("GET", &cart, Value::Null).await;
    assert_eq!((&seen["lines"][0]["variant_title"], &seen["fingerprint"]), (&json!("Blue"), &agreed["fingerprint"]), "{seen}");

    // What a dry run says will go, goes only where it is asked for.
    let (_, said) = import(&shop, file(&["Green"]), &["--dry-run", "--prune"]);
    assert!(said.contains(&blue) && said.contains("go"), "{said}");
    assert_eq!(variants(&product(&api, "vase").await.unwrap()).len(), 2);

    // The sku comes to stand for something else, at the same price.
    let renamed = format!("Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\nvase,Vase,Colour,Grey,{blue},30.00\n");
    imported(&shop, renamed);
    let place = json!({ "payment_method": INSTANT, "fingerprint": agreed["fingerprint"] });
    let (status, answer) = api.send("POST", &format!("{cart}/order"), place).await;
    assert_eq!(status, 409, "{answer}");

    let (_, before) = api.send("GET", &cart, Value::Null).await;
    let elsewhere = json!({ "shipping": { "country": "CN", "name": "韩梅梅", "phone": "13800138000", "company": "", "region": "33", "city": "杭州市", "district": "西湖区", "street": "龙井路 2 号", "postal_code": "" } });
    api.send("PUT", &format!("{cart}/addresses"), elsewhere).await;
    let place = json!({ "payment_method": INSTANT, "fingerprint": before["fingerprint"] });
    assert_eq!(api.send("POST", &format!("{cart}/order"), place).await.0, 409, "another recipient was not agreed to");

    let (code, said) = import(&shop, file(&["Green"]), &["--prune"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(variants(&product(&api, "vase").await.unwrap()).len(), 1);
}

#[tokio::test]
async fn stock_of_all_locations_is_one_stock() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    imported(&shop, "Handle,Title,Option1 Name,Option1 Value,SKU,Price,Inventory quantity\nlamp,Lamp,Size,Small,LP-S,10,1\nlamp,,,Large,,20,1\n");
    let large = variants(&product(&api, "lamp").await.unwrap())[1].0.to_owned();
    let file = "Handle,Title,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Option3 Name,Option3 Value,SKU,HS Code,COO,Location,Incoming,Unavailable,Committed,Available,On hand\n\
        lamp,Lamp,Size,Small,,,,,LP-S,,,Hangzhou,0,0,0,3,3\nlamp,Lamp,Size,Small,,,,,LP-S,,,Shanghai,0,0,0,4,4\n\
        lamp,Lamp,Size,Large,,,,,,,,Hangzhou,0,0,0,9,9\nlamp,Lamp,Size,Large,,,,,,,,Shanghai,not stocked,not stocked,not stocked,not stocked,not stocked\n\
        lamp,Lamp,Size,Huge,,,,,,,,Hangzhou,0,0,0,1,1\n";
    let (code, said) = import(&shop, file, &[]);
    assert!(code == 2 && said.contains("line 6") && said.contains("no product has this variant"), "{said}");
    assert_eq!((api.available("LP-S").await, api.available(&large).await), (7, 9));
    assert_eq!(product(&api, "lamp").await.unwrap()["title"], "Lamp");
}

#[tokio::test]
async fn what_is_exported_and_imported_again_changes_nothing() {
    let shop = Shop::open();
    imported(&shop, "Handle,Title,Body (HTML),Option1 Name,Option1 Value,SKU,Price,Barcode,Status\nodd,=Odd,\"<ul><li>1 &lt; 2</li></ul>\",Size,+1,=S,1,0690123456789,archived\nodd,,,,-1,@S,2,,\n");
    let out = shop.folder().join("products.csv");
    let exported = shop.souk(&["store", "export", "--out", out.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let file = fs::read(&out).unwrap();
    let text = String::from_utf8(file.clone()).unwrap();
    assert!(text.starts_with('\u{feff}') && text.contains("'=Odd") && text.contains("'0690123456789") && text.contains("archived"));
    let (code, said) = import(&shop, &file, &["--json"]);
    assert_eq!(code, 0, "{said}");
    let (_, report) = said.split_once("import-products: ").unwrap();
    let report = serde_json::Deserializer::from_str(report).into_iter::<Value>().next().unwrap().unwrap();
    let (_, all) = Api::of(&shop).send("GET", "/products?limit=1", Value::Null).await;
    let unchanged = all["total"].as_u64().unwrap() + 1;
    assert_eq!((&report["unchanged"], &report["updated"], &report["refused"]), (&json!(unchanged), &json!(0), &json!(0)), "{report:.2000}");
    assert!(shop.souk(&["store", "export", "--out", out.to_str().unwrap()]).status.success());
    assert_eq!(fs::read(&out).unwrap(), file);
}

#[tokio::test]
async fn a_price_a_coupon_and_a_rate_are_changed_by_one_command_each() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    imported(&shop, "Handle,Title,SKU,Price,Inventory quantity\nstool,Stool,ST-1,100,5\n");
    let run = |command: &str, arguments: &[&str]| shop.says(&[&["plugin", "run", command], arguments].concat());
    let (_, seen) = api.send("GET", "/products/stool", Value::Null).await;
    assert_eq!(seen["variants"][0]["price"]["amount"], 10_000);
    let (done, said) = run("set-price", &["sku=ST-1", "price=80"]);
    assert!(done && said.contains("80.00 CNY now; before: 100.00"), "{said}");
    assert_eq!(product(&api, "stool").await.unwrap()["variants"][0]["price"]["amount"], 8_000);

    let (done, said) = run("set-coupon", &["code=stool", "amount=30", "starts=2026-01-01T00:00", "ends=2099-01-01"]);
    assert!(done && said.contains("since 2026-01-01T00:00:00+08:00"), "{said}");
    let (cart, _) = api.cart("ST-1", 1).await.unwrap();
    let (_, view) = api.send("POST", &format!("{cart}/codes"), json!({ "code": "STOOL" })).await;
    assert_eq!(view["totals"]["discount"]["amount"], 3_000, "{view}");
    assert!(run("remove-coupon", &["code=STOOL"]).0);

    let (done, said) = run("set-shipping-rate", &["method=standard", "price=7.50", "free-from=none"]);
    assert!(done && said.contains("7.50 CNY"), "{said}");
    let (_, view) = api.send("GET", &cart, Value::Null).await;
    assert_eq!((&view["totals"]["shipping"]["amount"], &view["totals"]["discount"]["amount"]), (&json!(750), &json!(0)), "{view}");

    for (command, arguments, told) in [
        ("set-price", &["sku=NONE", "price=1"][..], "no product has the sku"),
        ("set-coupon", &["code=X", "percent=0"], "1 to 100"),
        ("set-shipping-rate", &["method=drone", "price=1"], "standard, express"),
    ] {
        let (done, said) = run(command, arguments);
        assert!(!done && said.contains(told), "{said}");
    }
}

/// Pictures that lie elsewhere are told of where the shop does not allow it: nobody would see them.
#[tokio::test]
async fn pictures_that_the_shop_does_not_allow_are_told_with_the_setting() {
    let shop = Shop::open();
    let header = "Handle,Title,SKU,Price,Image Src";
    let said = imported(&shop, format!("{header}\nfar,Far,FAR,1,https://cdn.example/a.jpg\nfar,,,,https://cdn.example/b.jpg\nnear,Near,NEAR,1,near.webp\n"));
    assert!(said.contains("2 pictures are not shown") && said.contains("\"https://cdn.example\" to image-origins"), "{said}");
    let said = imported(&shop, format!("{header}\nnear,Near,NEAR,1,near.webp\n"));
    assert!(!said.contains("not shown"), "{said}");
}

/// What is exported is all of it: attributes and tax classes, too.
#[tokio::test]
async fn an_export_has_attributes_and_tax_classes() {
    let shop = Shop::open();
    let export = String::from_utf8(shop.souk(&["store", "export"]).stdout).unwrap();
    let header = export.lines().next().unwrap();
    assert!(["Tax class", "Attributes", "Attributes [en]"].iter().all(|column| header.contains(column)), "{header}");
    let file = "Handle,Title,SKU,Price,Tax class,Attributes,Attributes [en]\nmade,Made,MADE,1,standard,\"产地: 杭州\n净重: 50: 克\",\"Origin: Hangzhou\nWeight: 50: g\"\n";
    imported(&shop, file);
    let api = Api::of(&shop);
    let made = product(&api, "made").await.unwrap();
    assert_eq!(made["attributes"], json!([{ "name": "Origin", "value": "Hangzhou" }, { "name": "Weight", "value": "50: g" }]), "{made}");
    let export = String::from_utf8(shop.souk(&["store", "export"]).stdout).unwrap();
    assert!(export.contains("产地: 杭州\n净重: 50: 克") && export.contains("Origin: Hangzhou\nWeight: 50: g"));
    let (code, said) = import(&shop, "Handle,Title,SKU,Price,Attributes\nmade,Made,MADE,1,no colon\n", &[]);
    assert!(code == 1 && said.contains("`no colon` has no colon"), "{said}");
}

/// What a row names is what is counted, or nothing is: an unknown sku never falls back to the variant of the same handle and options.
#[tokio::test]
async fn stock_goes_to_the_sku_that_a_row_names_or_nowhere() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    imported(&shop, "Handle,Title,Option1 Name,Option1 Value,SKU,Price,Inventory quantity\nlamp,Lamp,Size,Small,LP-S,10,30\nlamp,,,Large,LP-L,20,40\n");
    let located = "Handle,Title,Option1 Name,Option1 Value,SKU,Location,On hand\nlamp,Lamp,Size,Small,LP-S-OLD,Hangzhou,3\nlamp,Lamp,Size,Large,LP-L,Hangzhou,41\n";
    for kind in ["products", "stock"] {
        let (code, said) = import(&shop, located, &["--kind", kind]);
        assert!(code == 2 && said.contains("line 2: LP-S-OLD: refused") && said.contains("no product has `LP-S-OLD`; correct it, or import the product first"), "{said}");
        assert_eq!((api.available("LP-S").await, api.available("LP-L").await), (30, 41));
    }

    let rejects = shop.folder().join("rejects.csv");
    let file = "SKU,quantity\nLP-S,31\nLP-X,5\nLP-L,42\nLP-L,43\n";
    let (code, said) = import(&shop, file, &["--kind", "stock", "--dry-run"]);
    assert!(code == 2 && said.contains("line 2: LP-S: updated\n    on hand 30 → 31"), "{said}");
    assert_eq!(api.available("LP-S").await, 30, "a dry run changes nothing");
    let (code, said) = import(&shop, file, &["--kind", "stock", "--rejects", rejects.to_str().unwrap()]);
    assert!(code == 2 && said.starts_with("import-stock:\n  stock       0 new, 1 changed, 0 unchanged, 3 rejected"), "{said}");
    assert!(said.contains("line 3: LP-X: refused") && said.contains("--create") && said.contains("line 5: LP-L: refused\n    SKU: `LP-L` occurs more than once"), "{said}");
    assert_eq!((api.available("LP-S").await, api.available("LP-L").await, api.available("LP-X").await), (31, 41, 0));
    assert_eq!(fs::read_to_string(&rejects).unwrap().lines().count(), 4);
    let (code, said) = import(&shop, "SKU,quantity\nLP-X,5\n", &["--kind", "stock", "--create"]);
    assert!(code == 0 && said.contains("1 new"), "{said}");
    assert_eq!(api.available("LP-X").await, 5);
}

/// Each dry run says what is now and what would be, and changes nothing.
#[tokio::test]
async fn a_dry_run_says_what_would_change() {
    let shop = Shop::open();
    let api = Api::of(&shop);
    let file = |price: &str, count: u32, name: &str| format!("Handle,Title,Type,SKU,Price,Inventory quantity\nlamp,{name},Lamps,LP,{price},{count}\n");
    imported(&shop, file("10.00", 3, "Lamp"));
    let before = product(&api, "lamp").await.unwrap();
    let (code, said) = import(&shop, file("12.50", 4, "Tall lamp"), &["--dry-run"]);
    assert!(code == 0 && ["“Lamp” → “Tall lamp”", "LP: price “10.00” → “12.50”", "LP: on hand 3 → 4"].iter().all(|change| said.contains(change)), "{said}");
    let (code, said) = import(&shop, "Handle,Name,Parent\nlamps,Lights,home\n", &["--kind", "categories", "--dry-run"]);
    assert!(code == 0 && said.contains("“Lamps” → “Lights”") && said.contains("parent (none) → “home”"), "{said}");
    let looked = shop.run("set-stock", &["sku=LP", "available=9", "dry-run=true"]);
    assert!(looked["changes"].as_str().unwrap().starts_with("on-hand 3 → 9, available 3 → 9"), "{looked}");
    assert_eq!((product(&api, "lamp").await.unwrap(), api.available("LP").await), (before, 3));
    let (_, said) = import(&shop, "Handle,Name\nlamps,Lights\n", &["--kind", "categories"]);
    assert!(said.starts_with("import-categories:\n  categories  0 new, 1 changed, 0 unchanged, 0 rejected"), "{said}");
}

/// The files of a folder below `media`, `dictionaries` and such aside.
fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file());
    let mut files: Vec<_> = files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

/// What a reader sees of a page: its text, without markup and scripts.
fn seen(html: &str) -> String {
    let shown = html.split('<').map(|part| if part.starts_with("script") || part.starts_with("style") { "" } else { part.split_once('>').map_or(part, |(_, text)| text) });
    shown.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn export_all(shop: &Shop, name: &str) -> std::path::PathBuf {
    let folder = shop.folder().join(name);
    let (done, said) = shop.says(&["store", "export", "--all", folder.to_str().unwrap()]);
    assert!(done, "{said}");
    folder
}

/// Everything that a retailer has put in makes the same shop elsewhere.
#[tokio::test]
async fn an_export_of_all_makes_the_same_shop() {
    let shop = Shop::open();
    imported(&shop, "Handle,Title,Type,Option1 Name,Option1 Value,SKU,Price,Inventory tracker,Inventory quantity,Continue selling when out of stock,Status\n\
        vase,Vase,花器,Colour,Blue,VB,10,shopify,3,continue,unlisted\nvase,,,,Green,,12,,,,\n");
    for (command, arguments) in [
        ("set-coupon", &["code=EXPORT", "percent=11", "starts=2026-01-01T00:00", "ends=2099-01-01"][..]),
        ("set-sale", &["id=summer", "percent=20", "sku=VB", "starts=2026-01-01T00:00"]),
        ("set-shipping-rate", &["method=standard", "price=7.50"]),
    ] {
        let (done, said) = shop.says(&[&["plugin", "run", command], arguments].concat());
        assert!(done, "{said}");
    }
    let first = export_all(&shop, "exported");
    let names: Vec<String> = files(&first).into_iter().map(|(name, _)| name).collect();
    let wanted = ["bxgy.json", "categories.csv", "coupons.json", "import.toml", "pages.md", "price-lists.json", "products.csv", "shipping.json", "souk.toml", "stock.csv", "tax.json"];
    assert_eq!(names, wanted);
    for table in ["categories.csv", "products.csv", "stock.csv"] {
        assert!(fs::read(first.join(table)).unwrap().starts_with(b"\xef\xbb\xbf"), "{table} opens in Excel");
    }
    let (again, said) = shop.says(&["store", "export", "--all", first.to_str().unwrap()]);
    assert!(!again && said.contains("exists already"), "{said}");

    let other = Shop::serve(store_of(&first));
    let second = export_all(&other, "exported");
    for ((name, before), (_, after)) in files(&first).into_iter().zip(files(&second)) {
        assert!(before == after, "{name} differs:\n{}\n\n{}", String::from_utf8_lossy(&before), String::from_utf8_lossy(&after));
    }
    for path in ["/zh", "/zh/products", "/zh/c/tea", "/zh/c/tea?sort=newest", "/en/p/longjing-green-tea", "/en/p/vase", "/zh/pages/imprint", "/en/c/花器"] {
        let (one, two) = (page(&shop, path).await, page(&other, path).await);
        assert_eq!((one.0, seen(&one.1)), (two.0, seen(&two.1)), "{path}");
        assert_eq!(one.0, 200, "{path}");
    }
    let (mine, theirs) = (Api::of(&shop), Api::of(&other));
    assert_eq!((theirs.available("VB").await, mine.available("VB").await), (1_000_000, 1_000_000));
}

/// The recipe of docs/import.md.
#[tokio::test]
async fn a_shop_is_made_in_another_currency() {
    let shop = Shop::open();
    let from = export_all(&shop, "dollars");
    let settings = fs::read_to_string(from.join("souk.toml")).unwrap().replace("\"CNY\"", "\"USD\"");
    fs::write(from.join("souk.toml"), settings).unwrap();
    let products = fs::read_to_string(from.join("products.csv")).unwrap();
    fs::write(from.join("products.csv"), products.replacen(",68.00,", ",9.90,", 1)).unwrap();
    let other = Shop::serve(store_of(&from));
    let (_, all) = Api::of(&other).send("GET", "/products?limit=1", Value::Null).await;
    let (_, before) = Api::of(&shop).send("GET", "/products?limit=1", Value::Null).await;
    assert_eq!((&all["products"][0]["price_min"]["currency"], &all["total"]), (&json!("USD"), &before["total"]), "{all}");
    let exported = other.souk(&["store", "export"]).stdout;
    assert!(String::from_utf8_lossy(&exported).contains(",9.90,"));
}

/// What is no table is told by what it looks like, and no byte of it is taken for a product.
#[tokio::test]
async fn a_picture_or_a_workbook_is_no_table() {
    let shop = Shop::open();
    for (file, told) in [(&b"\x89PNG\r\n\x1a\n\0\0"[..], "a picture (PNG)"), (b"PK\x03\x04\x14\0", "an Excel workbook"), (b"\n\n", "an empty file")] {
        for kind in ["products", "stock", "coupons"] {
            let (code, said) = import(&shop, file, &["--kind", kind]);
            assert!(code == 1 && said.contains(told) && said.contains("CSV UTF-8"), "{said}");
        }
    }
}

/// What a hostile or broken file brings is refused with its line, or goes in without what would harm a page.
#[tokio::test]
async fn what_a_broken_file_brings_harms_neither_shop_nor_pages() {
    let shop = Shop::open();
    let header = "Handle,Title,SKU,Price,Inventory quantity,Image Src";
    let long = "x".repeat(10_000_000);
    let file = format!(
        "{header}\r\nlong,{long},LONG,1,1,\nout,Out,OUT,1,1,../../souk.toml\nscript,S,SCRIPT,1,1,javascript:alert(1)\n\
         vast,V,VAST,99999999999999999999,1,\nless,L,LESS,-1,1,\nmany,M,MANY,1,99999999999999999999,\nturned,\u{202e}Turned\u{0}\u{7},TURNED,1,1,\n"
    );
    let (code, said) = import(&shop, file, &[]);
    assert!(code == 2 && said.starts_with("import-products:\n  products    1 new, 0 changed, 0 unchanged, 6 rejected"), "{said:.2000}");
    for line in 2..=7 {
        assert!(said.contains(&format!("line {line}: ")), "{line}: {said:.2000}");
    }
    assert_eq!(product(&Api::of(&shop), "turned").await.unwrap()["title"], "Turned");
    let wide = format!("Handle,Title,Price{}\na,A,1\n", ",x".repeat(10_000));
    let deep = "[".repeat(100_000);
    for (file, kind, told) in [("Handle,Title,Price,price\na,A,1,2\n", "products", "two columns are named `price`"), (&wide, "products", "at most 1000"), (&deep, "catalogue", "recursion limit")] {
        let (code, said) = import(&shop, file, &["--kind", kind]);
        assert!(code == 1 && said.contains(told), "{said:.2000}");
    }
    let (_, said) = page(&shop, "/media/..%2f..%2fsouk.toml").await;
    assert!(!said.contains("time-zone"), "{said}");
}
