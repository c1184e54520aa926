//! The OpenAPI 3.1 document of this plugin's routes.

use serde_json::{Value, json};

use crate::{NAME_CHARS_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, SKUS_MAX, SORTS};

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(|p| p.keys()).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn optional(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn get(id: &str, summary: &str, parameters: Value, schema: Value) -> Value {
    let problem = json!({ "description": "What is wrong", "content": { "application/problem+json": { "schema": reference("Problem") } } });
    json!({ "get": {
        "operationId": id,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "OK", "content": { "application/json": { "schema": schema } } },
            "default": problem,
        },
    } })
}

fn query(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "schema": schema })
}

pub fn document() -> Value {
    let text = || json!({ "type": "string" });
    let whole = || json!({ "type": "integer", "minimum": 0 });
    let name = || json!({ "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Souk", "version": "1", "description": "The shop's catalogue. Amounts are in minor units of their currency." },
        "paths": {
            "/api/v1/products": get("listProducts", "Products, of the whole shop or a category", json!([
                query("category", name()),
                query("sort", json!({ "type": "string", "enum": SORTS.map(|(name, _)| name) })),
                query("offset", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 0 })),
                query("limit", json!({ "type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE_DEFAULT })),
            ]), reference("Listing")),
            "/api/v1/products/{handle}": get("getProduct", "One product with its variants", json!([
                { "name": "handle", "in": "path", "required": true, "schema": name() },
            ]), reference("Product")),
            "/api/v1/availability": get("getAvailability", "What is free to sell now, by sku", json!([
                { "name": "sku", "in": "query", "required": true, "schema": { "type": "array", "items": name(), "minItems": 1, "maxItems": SKUS_MAX } },
            ]), list(object(json!({ "sku": text(), "available": { "type": "integer" } })))),
            "/api/v1/categories": get("listCategories", "All categories, parents before children", json!([]), list(reference("Category"))),
            "/api/v1/openapi.json": get("getDocument", "This document", json!([]), json!({ "type": "object" })),
        },
        "components": { "schemas": {
            "Problem": { "type": "object", "properties": { "type": text(), "title": text(), "status": { "type": "integer" }, "detail": text() } },
            "Money": object(json!({ "amount": { "type": "integer" }, "currency": { "type": "string", "pattern": "^[A-Z]{3}$" } })),
            "Image": object(json!({ "url": text(), "alt": text(), "width": whole(), "height": whole() })),
            "Attribute": object(json!({ "name": text(), "value": text() })),
            "Option": object(json!({ "name": text(), "values": list(object(json!({ "id": text(), "name": text() }))) })),
            "Variant": object(json!({
                "sku": text(), "options": list(text()), "title": text(), "price": reference("Money"),
                "compare_at": optional(reference("Money")), "weight_g": whole(), "barcode": optional(text()),
            })),
            "Product": object(json!({
                "handle": text(), "title": text(), "subtitle": text(), "description": text(), "brand": text(), "category": text(),
                "tags": list(text()), "attributes": list(reference("Attribute")), "options": list(reference("Option")),
                "variants": list(reference("Variant")), "images": list(reference("Image")), "tax_class": text(),
                "created_ms": whole(), "revision": whole(),
            })),
            "ProductSummary": object(json!({
                "handle": text(), "title": text(), "subtitle": text(), "category": text(), "image": optional(reference("Image")),
                "price_min": reference("Money"), "price_max": reference("Money"), "compare_at": optional(reference("Money")),
                "variant_count": whole(), "only_sku": optional(text()),
            })),
            "Listing": object(json!({ "total": whole(), "products": list(reference("ProductSummary")) })),
            "Category": object(json!({
                "handle": text(), "name": text(), "description": text(), "parent": optional(text()),
                "image": optional(reference("Image")), "product_count": whole(),
            })),
        } },
    })
}
