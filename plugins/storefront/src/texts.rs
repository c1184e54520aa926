//! Every sentence of the shop in each language. Whole sentences, never joined
//! from parts.

pub struct Texts {
    pub lang: &'static str,
    pub skip: &'static str,
    pub all_products: &'static str,
    pub categories: &'static str,
    pub newest: &'static str,
    pub tagline: &'static str,
    pub intro: &'static str,
    pub browse: &'static str,
    pub home: &'static str,
    pub breadcrumb: &'static str,
    pub other_language: &'static str,
    pub sort: &'static str,
    pub sort_position: &'static str,
    pub sort_newest: &'static str,
    pub sort_price_up: &'static str,
    pub sort_price_down: &'static str,
    pub apply: &'static str,
    pub previous: &'static str,
    pub next: &'static str,
    pub pages: &'static str,
    pub nothing_here: &'static str,
    pub in_stock: &'static str,
    pub sold_out: &'static str,
    pub former_price: &'static str,
    pub now_price: &'static str,
    pub price: &'static str,
    pub details: &'static str,
    pub description: &'static str,
    pub not_found: &'static str,
    pub not_found_hint: &'static str,
    pub footer: &'static str,
}

pub static EN: Texts = Texts {
    lang: "en",
    skip: "Skip to the content",
    all_products: "All products",
    categories: "Categories",
    newest: "New arrivals",
    tagline: "Good things for every day.",
    intro: "Tea and kitchenware, books and toys, clothes and plants: chosen with care, shipped from our own warehouse.",
    browse: "Browse all products",
    home: "Home",
    breadcrumb: "You are here",
    other_language: "中文",
    sort: "Sort by",
    sort_position: "Featured",
    sort_newest: "Newest",
    sort_price_up: "Price, lowest first",
    sort_price_down: "Price, highest first",
    apply: "Sort",
    previous: "Previous page",
    next: "Next page",
    pages: "Pages",
    nothing_here: "There are no products here yet.",
    in_stock: "In stock",
    sold_out: "Sold out",
    former_price: "Was",
    now_price: "Now",
    price: "Price",
    details: "Details",
    description: "Description",
    not_found: "This page does not exist",
    not_found_hint: "The address may be mistyped, or the product is no longer sold.",
    footer: "Prices include VAT. Ships from Shanghai.",
};

pub static ZH: Texts = Texts {
    lang: "zh-CN",
    skip: "跳到正文",
    all_products: "全部商品",
    categories: "商品分类",
    newest: "新品上架",
    tagline: "日日好物，用心挑选。",
    intro: "茶叶厨具、图书玩具、服饰绿植，每一件都用心挑选，自有仓库直接发货。",
    browse: "浏览全部商品",
    home: "首页",
    breadcrumb: "当前位置",
    other_language: "English",
    sort: "排序方式",
    sort_position: "店铺推荐",
    sort_newest: "最新上架",
    sort_price_up: "价格从低到高",
    sort_price_down: "价格从高到低",
    apply: "排序",
    previous: "上一页",
    next: "下一页",
    pages: "分页",
    nothing_here: "这里暂时还没有商品。",
    in_stock: "现货",
    sold_out: "已售罄",
    former_price: "原价",
    now_price: "现价",
    price: "价格",
    details: "商品参数",
    description: "商品介绍",
    not_found: "没有找到这个页面",
    not_found_hint: "网址可能有误，或商品已下架。",
    footer: "商品价格含增值税，上海仓发货。",
};

pub fn of(locale: &str) -> &'static Texts {
    if locale.starts_with("zh") { &ZH } else { &EN }
}

impl Texts {
    pub fn product_count(&self, count: u32) -> String {
        match (self.lang, count) {
            ("en", 1) => "1 product".into(),
            ("en", _) => format!("{count} products"),
            _ => format!("共 {count} 件商品"),
        }
    }

    pub fn price_from(&self, price: &str) -> String {
        if self.lang == "en" { format!("from {price}") } else { format!("{price} 起") }
    }

    pub fn only_left(&self, count: i64) -> String {
        if self.lang == "en" { format!("Only {count} left") } else { format!("仅剩 {count} 件") }
    }

    pub fn picture_of(&self, place: usize, count: usize) -> String {
        if self.lang == "en" { format!("Picture {place} of {count}") } else { format!("第 {place} 张图片，共 {count} 张") }
    }

    pub fn page_of(&self, page: u32, pages: u32) -> String {
        if self.lang == "en" { format!("Page {page} of {pages}") } else { format!("第 {page} 页，共 {pages} 页") }
    }
}
