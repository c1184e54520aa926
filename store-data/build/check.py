#!/usr/bin/env python3
"""Checks the shop's data: `python3 store-data/build/check.py`. Prints every fault it finds, then the counts; exits 1 on a fault."""

import itertools
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CJK = re.compile(r"[\u3400-\u9fff]")
PRODUCTS_MIN, LEAVES_MIN, SKUS_MIN = 300, 30, 1000
PRICE_MIN, PRICE_MAX = 1900, 299900  # fen
PICTURE_BYTES_MAX, MEDIA_BYTES_MAX = 25 * 1024, 8 * 1024 * 1024

faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def both_languages(where, text, cjk_needed=True):
    """English without Chinese characters, Chinese with them (bare figures and sizes such as `M` may lack them)."""
    if sorted(text) != ["en", "zh-CN"] or not all(v.strip() for v in text.values()):
        return fault(where, f"needs non-empty en and zh-CN: {text}")
    if CJK.search(text["en"]):
        fault(where, f"Chinese in the English text: {text['en']}")
    if cjk_needed and not CJK.search(text["zh-CN"]):
        fault(where, f"no Chinese in the Chinese text: {text['zh-CN']}")
    if any("<" in v for v in text.values()):
        fault(where, "markup in text")


def unique(where, seen, value):
    if value in seen:
        fault(where, f"{value} occurs twice")
    seen.add(value)


def load(path):
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def picture(where, name):
    path = ROOT / "media" / name
    if not path.is_file():
        fault(where, f"no picture {name}")
    elif path.stat().st_size > PICTURE_BYTES_MAX:
        fault(where, f"picture over {PICTURE_BYTES_MAX} bytes")


def check_categories():
    categories, handles = load("catalogue/categories.json"), set()
    tops = {c["handle"] for c in categories if c["parent"] is None}
    for c in categories:
        unique("categories", handles, c["handle"])
        both_languages(c["handle"], c["name"])
        both_languages(c["handle"], c["description"])
        picture(c["handle"], f"category-{c['handle']}.webp")
        if c["parent"] is not None and c["parent"] not in tops:
            fault(c["handle"], f"unknown parent {c['parent']}")
    return handles, handles - tops


def check_product(p, skus, barcodes):
    where = p["handle"]
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", where):
        fault(where, "handle is not lower-case words joined by hyphens")
    for field in ("name", "subtitle", "description"):
        both_languages(f"{where} {field}", p[field])
    for a in p["attributes"]:
        both_languages(f"{where} attribute", a["name"])
        both_languages(f"{where} attribute", a["value"], cjk_needed=False)
    for o in p["options"]:
        both_languages(f"{where} option", o["name"])
        for v in o["values"]:
            both_languages(f"{where} option value", v["name"], cjk_needed=False)
    expected = list(itertools.product(*([v["id"] for v in o["values"]] for o in p["options"])))
    if sorted(expected) != sorted(tuple(v["options"]) for v in p["variants"]):
        fault(where, "the variants are not the product of the options")
    for v in p["variants"]:
        unique("skus", skus, v["sku"])
        if v["barcode"] is not None:
            unique("barcodes", barcodes, v["barcode"])
            digits = [int(d) for d in v["barcode"]]
            if len(digits) != 13 or sum(digits[0::2]) % 10 != -3 * sum(digits[1::2]) % 10:
                fault(v["sku"], "not an EAN-13")
        if not PRICE_MIN <= v["price"] <= PRICE_MAX:
            fault(v["sku"], f"price {v['price']} out of range")
        if v["compare-at-price"] is not None and v["compare-at-price"] <= v["price"]:
            fault(v["sku"], "compare-at price is no higher than the price")
        if v["stock"] < 0 or v["weight-g"] <= 0:
            fault(v["sku"], "stock or weight out of range")
    if not p["images"]:
        fault(where, "no picture")
    for name in p["images"]:
        picture(where, name)
    if p.get("tax-class") not in (None, "reduced"):
        fault(where, "unknown tax class")


def check_rules(categories):
    promotions, codes = load("promotions.json"), set()
    for c in promotions["coupons"]:
        unique("coupons", codes, c["code"])
        both_languages(c["code"], c["name"])
        if c["kind"] not in ("percent", "fixed", "free-shipping") or c["starts-at"] >= c["ends-at"]:
            fault(c["code"], "unknown kind or empty period")
    for r in promotions["buy-x-get-y"]:
        both_languages(r["id"], r["name"])
        if r["category"] not in categories:
            fault(r["id"], f"unknown category {r['category']}")
    for zone in load("shipping.json")["zones"]:
        both_languages(zone["id"], zone["name"])
        for method in zone["methods"]:
            both_languages(method["id"], method["name"])
    if sum("*" in z["countries"] for z in load("tax.json")["zones"]) != 1:
        fault("tax", "exactly one zone must take the countries no other names")


def main():
    categories, leaves = check_categories()
    handles, skus, barcodes, filled = set(), set(), set(), set()
    for path in sorted((ROOT / "catalogue/products").glob("*.json")):
        for p in load(path):
            unique("products", handles, p["handle"])
            if p["category"] != path.stem or p["category"] not in leaves:
                fault(p["handle"], f"category {p['category']} is not the leaf its file is named for")
            filled.add(p["category"])
            check_product(p, skus, barcodes)
    check_rules(categories)
    for leaf in sorted(leaves - filled):
        fault(leaf, "category without products")
    words = (ROOT / "dictionaries/zh.txt").read_text(encoding="utf-8").split()
    if not words or len(words) != len(set(words)) or not all(CJK.search(w) for w in words):
        fault("dictionary", "empty, repeated or not Chinese")
    media = sum(f.stat().st_size for f in (ROOT / "media").glob("*.webp"))
    if media > MEDIA_BYTES_MAX:
        fault("media", f"{media} bytes, over {MEDIA_BYTES_MAX}")
    for what, count, least in (("products", handles, PRODUCTS_MIN), ("leaf categories", leaves, LEAVES_MIN), ("SKUs", skus, SKUS_MIN)):
        if len(count) < least:
            fault(what, f"{len(count)}, fewer than {least}")
    print("\n".join(faults), end="\n" if faults else "")
    print(f"{len(handles)} products, {len(leaves)} leaf categories, {len(skus)} SKUs, {len(words)} words, {media / 2**20:.1f} MiB of pictures")
    sys.exit(1 if faults else 0)


main()
