//! The OpenAPI 3.1 document of this plugin's routes.

use serde_json::{Value, json};

use crate::search;
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

// Beside the other schemas: the macro that holds them goes no deeper.

fn order() -> Value {
    object(json!({
        "number": text(), "token": text(), "locale": text(), "created_ms": whole(), "lines": list(reference("CartLine")),
        "status": { "enum": ["payment-pending", "placed", "cancelled", "refunding", "refunded", "fulfilled"] },
        "applied": list(reference("Applied")), "taxes": list(reference("TaxLine")), "totals": reference("Totals"), "contact": reference("Contact"),
        "shipping_address": reference("Address"), "billing_address": optional(reference("Address")), "shipping_method": reference("ShippingMethod"),
        "payment_id": text(), "timeline": list(object(json!({ "at_ms": whole(), "actor": text(), "kind": text(), "detail": text() }))),
        "history": list(reference("OrderStep")),
        "payment": optional(reference("Payment")),
    }))
}

fn order_step() -> Value {
    object(json!({ "at_ms": whole(), "kind": text(), "amount": optional(reference("Money")), "tracking": text(), "message": text() }))
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn variant() -> Value {
    object(json!({
        "sku": text(), "options": list(text()), "title": text(), "weight_g": whole(), "barcode": optional(text()),
        "price": described(reference("Money"), "What everybody pays for one piece now: the price of a cart's line"),
        "compare_at": described(optional(reference("Money")), "The list price, where it is higher: the regular one during a sale, else the former one"),
    }))
}

/// With what it means.
fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
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

/// One way to change a cart; all answer with the cart as it is then.
fn change(id: &str, summary: &str, path: &[&str], body: Value) -> Value {
    change_to(id, summary, path, body, reference("Cart"))
}

fn change_to(id: &str, summary: &str, path: &[&str], body: Value, schema: Value) -> Value {
    let mut operation = get(id, summary, parameters(path), schema)["get"].take();
    if !body.is_null() {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    operation
}

/// It answers with 201 instead of 200.
fn created_at(mut operation: Value) -> Value {
    if let Some(responses) = operation["responses"].as_object_mut()
        && let Some(answer) = responses.remove("200")
    {
        responses.insert("201".into(), answer);
    }
    operation
}

fn parameters(path: &[&str]) -> Value {
    path.iter().map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

fn query(name: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "schema": schema })
}

pub fn document() -> Value {
    let name = || json!({ "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX });
    let quantity = |least: u32| json!({ "type": "integer", "minimum": least, "maximum": 999 });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Souk", "version": "1", "description": "The shop's catalogue, carts and orders. Amounts are in minor units of their currency." },
        "paths": {
            "/api/v1/products": get("listProducts", "Products, of the whole shop or a category", json!([
                query("category", name()),
                query("sort", json!({ "type": "string", "enum": SORTS.map(|(name, _)| name) })),
                query("offset", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 0 })),
                query("limit", json!({ "type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE_DEFAULT })),
            ]), reference("Listing")),
            "/api/v1/products/{handle}": get("getProduct", "One product with its variants", json!([
                { "name": "handle", "in": "path", "required": true, "schema": { "type": "string", "maxLength": 255 } },
            ]), reference("Product")),
            "/api/v1/availability": get("getAvailability", "What is free to sell now, by sku", json!([
                { "name": "sku", "in": "query", "required": true, "schema": { "type": "array", "items": name(), "minItems": 1, "maxItems": SKUS_MAX } },
            ]), list(object(json!({ "sku": text(), "available": { "type": "integer" } })))),
            "/api/v1/categories": get("listCategories", "All categories, parents before children", json!([]), list(reference("Category"))),
            "/api/v1/search": get("search", "Products that fit words and filters, with how many there are of each category and brand", json!([
                query("q", json!({ "type": "string", "maxLength": search::TEXT_CHARS_MAX })),
                query("category", name()),
                query("brand", json!({ "type": "array", "items": name(), "maxItems": search::BRANDS_MAX })),
                query("price-min", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })),
                query("price-max", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })),
                query("sort", json!({ "type": "string", "enum": search::SORTS.map(|(name, _)| name) })),
                query("offset", json!({ "type": "integer", "minimum": 0, "maximum": search::OFFSET_MAX, "default": 0 })),
                query("limit", json!({ "type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE_DEFAULT })),
            ]), reference("SearchResults")),
            "/api/v1/suggest": get("suggest", "Words that begin like this", json!([
                { "name": "q", "in": "query", "required": true, "schema": { "type": "string", "minLength": 1, "maxLength": search::TEXT_CHARS_MAX } },
                query("limit", json!({ "type": "integer", "minimum": 1, "maximum": search::SUGGESTIONS_MAX, "default": 8 })),
            ]), list(text())),
            "/api/v1/carts": { "post": created_at(change("createCart", "Makes an empty cart", &[], Value::Null)) },
            "/api/v1/carts/{cart}": get("getCart", "A cart, priced now", parameters(&["cart"]), reference("Cart")),
            "/api/v1/carts/{cart}/changes": get("listCartChanges", "What became different by itself since it was put into the cart", parameters(&["cart"]), list(object(json!({
                "kind": { "enum": ["price", "discount", "unavailable"] }, "subject": text(), "title": text(), "before": reference("Money"), "now": reference("Money"),
            })))),
            "/api/v1/carts/{cart}/lines": { "post": change("addLine", "Adds to the line of a sku, or makes one", &["cart"], object(json!({ "sku": name(), "quantity": quantity(1) }))) },
            "/api/v1/carts/{cart}/lines/{line}": {
                "put": change("setQuantity", "Sets a line's quantity; 0 removes it", &["cart", "line"], object(json!({ "quantity": quantity(0) }))),
                "delete": change("removeLine", "Removes a line", &["cart", "line"], Value::Null),
            },
            "/api/v1/carts/{cart}/codes": { "post": change("addCode", "Enters a coupon code; one that applies only without others is kept and told in `rejected` as long as others save more; another one that does not apply is not kept", &["cart"], object(json!({ "code": text() }))) },
            "/api/v1/carts/{cart}/codes/{code}": { "delete": change("removeCode", "Removes a coupon code", &["cart", "code"], Value::Null) },
            "/api/v1/carts/{cart}/contact": { "put": change("setContact", "Who buys", &["cart"], reference("Contact")) },
            "/api/v1/carts/{cart}/addresses": { "put": change("setAddresses", "Where to", &["cart"], json!({
                "type": "object", "required": ["shipping"], "properties": { "shipping": reference("Address"), "billing": optional(reference("Address")) },
            })) },
            "/api/v1/carts/{cart}/shipping-methods": get("listShippingMethods", "The ways this cart can be delivered, cheapest first", parameters(&["cart"]), list(reference("ShippingMethod"))),
            "/api/v1/carts/{cart}/shipping-method": { "put": change("setShippingMethod", "Chooses one of them", &["cart"], object(json!({ "id": text() }))) },
            "/api/v1/carts/{cart}/payment-methods": get("listPaymentMethods", "The ways to pay this cart's total", parameters(&["cart"]), list(object(json!({
                "id": text(), "name": text(), "description": text(),
            })))),
            "/api/v1/carts/{cart}/order": { "post": created_at(change_to("placeOrder", "Turns the cart into an order and starts its payment; the same cart gives the same order", &["cart"], json!({
                "type": "object", "required": ["payment_method"], "properties": { "payment_method": text(), "fingerprint": optional(text()) },
            }), object(json!({ "number": text(), "token": text(), "payment_id": text(), "total": reference("Money") })))) },
            "/api/v1/orders/{token}": get("getOrder", "An order with its newest payment", parameters(&["token"]), reference("Order")),
            "/api/v1/orders/{token}/cancel": { "post": change_to("cancelOrder", "Cancels an order that is not sent; what was paid goes back", &["token"], Value::Null, reference("Order")) },
            "/api/v1/orders/{token}/cart": { "post": created_at(change_to(
                "reopenOrder", "Makes a cart of an order that is not paid, and gives the order up", &["token"], Value::Null,
                object(json!({ "cart": text(), "left_out": list(text()) })),
            )) },
            "/api/v1/order-look-up": { "post": change_to(
                "lookUpOrder", "The token of an order, for who knows its number and the e-mail address or phone number given with it; null where they do not belong together", &[],
                object(json!({ "number": text(), "contact": text() })), object(json!({ "token": optional(text()) })),
            ) },
            "/api/v1/orders/{token}/payments": { "post": created_at(change_to(
                "payOrder", "Another payment, after one that was declined", &["token"], object(json!({ "payment_method": text() })), reference("Order"),
            )) },
            "/api/v1/orders/{token}/payments/check": { "post": change_to("checkPayment", "Asks the payment provider what became of the newest payment", &["token"], Value::Null, reference("Order")) },
            "/api/v1/countries": get("listCountries", "Where the shop delivers to", json!([]), list(object(json!({ "code": text(), "name": text() })))),
            "/api/v1/countries/{country}/address-form": get("getAddressForm", "The fields of an address, in their order", parameters(&["country"]), list(object(json!({
                "name": text(), "label": text(), "required": { "type": "boolean" }, "pattern": text(), "example": text(), "autocomplete": text(),
                "subdivisions": list(object(json!({ "code": text(), "name": text() }))), "length_max": whole(),
            })))),
            "/api/v1/openapi.json": get("getDocument", "This document", json!([]), json!({ "type": "object" })),
        },
        "components": { "schemas": schemas() },
    })
}

/// What the operations speak of, by name.
fn schemas() -> Value {
    json!({
        "Problem": { "type": "object", "properties": { "type": text(), "title": text(), "status": { "type": "integer" }, "detail": text() } },
        "Money": object(json!({ "amount": { "type": "integer" }, "currency": { "type": "string", "pattern": "^[A-Z]{3}$" } })),
        "Image": object(json!({ "url": text(), "alt": text(), "width": whole(), "height": whole() })),
        "Attribute": object(json!({ "name": text(), "value": text() })),
        "Option": object(json!({ "name": text(), "values": list(object(json!({ "id": text(), "name": text() }))) })),
        "Variant": variant(),
        "Product": object(json!({
            "handle": text(), "title": text(), "subtitle": text(), "description": text(), "brand": text(), "category": text(),
            "tags": list(text()), "attributes": list(reference("Attribute")), "options": list(reference("Option")),
            "variants": list(reference("Variant")), "images": list(reference("Image")), "tax_class": text(),
            "created_ms": whole(), "revision": whole(), 
            "price_valid_until_ms": described(optional(whole()), "When the price of a variant may next be another one, UTC milliseconds"),
        })),
        "ProductSummary": object(json!({
            "handle": text(), "title": text(), "subtitle": text(), "category": text(), "image": optional(reference("Image")),
            "price_min": reference("Money"), "price_max": reference("Money"), "compare_at": optional(reference("Money")),
            "variant_count": whole(), "only_sku": optional(text()),
        })),
        "Listing": object(json!({ "total": whole(), "products": list(reference("ProductSummary")) })),
        "FacetValue": object(json!({ "value": text(), "label": text(), "count": whole() })),
        "SearchResults": object(json!({
            "total": whole(), "products": list(reference("ProductSummary")), "categories": list(reference("FacetValue")),
            "brands": list(reference("FacetValue")), "corrected": { "type": "boolean" },
        })),
        "Contact": object(json!({ "email": text(), "phone": text() })),
        "Address": object(json!({
            "country": { "type": "string", "pattern": "^[A-Z]{2}$" }, "name": text(), "phone": text(), "company": text(), "region": text(),
            "city": text(), "district": text(), "street": text(), "postal_code": text(),
        })),
        "ShippingMethod": object(json!({
            "id": text(), "name": text(), "description": text(), "price": reference("Money"), "days_min": whole(), "days_max": whole(),
        })),
        "CartLine": object(json!({
            "id": text(), "sku": text(), "product": text(), "title": text(), "variant_title": text(), "image": optional(reference("Image")),
            "quantity": whole(), "unit_price": reference("Money"), "regular_price": reference("Money"), "subtotal": reference("Money"),
            "discount": reference("Money"), "total": reference("Money"), "available": { "type": "integer" }, "weight_g": whole(),
        })),
        "Applied": object(json!({ "id": text(), "title": text(), "code": optional(text()), "amount": reference("Money") })),
        "TaxLine": object(json!({
            "line_id": text(), "name": text(), "rate_ppm": whole(), "amount": reference("Money"), "included": { "type": "boolean" },
        })),
        "Totals": object(json!({
            "subtotal": reference("Money"), "discount": reference("Money"), "shipping": optional(reference("Money")),
            "shipping_discount": reference("Money"), "tax_added": reference("Money"), "tax_included": reference("Money"), "total": reference("Money"),
        })),
        "OrderStep": order_step(),
        "Payment": object(json!({
            "id": text(), "provider": text(), "order_token": text(), "amount": reference("Money"), "redirect_url": optional(text()), "message": text(),
            "status": { "enum": ["starting", "action-required", "captured", "declined", "unknown", "cancelled", "refunding", "refunded"] },
        })),
        "Order": order(),
        "Cart": object(json!({
            "id": text(), "currency": text(), "lines": list(reference("CartLine")), "item_count": whole(), "codes": list(text()),
            "applied": list(reference("Applied")), "rejected": list(object(json!({ "code": text(), "reason": text() }))),
            "taxes": list(reference("TaxLine")), "totals": reference("Totals"),
            "contact": optional(reference("Contact")), "shipping_address": optional(reference("Address")),
            "billing_address": optional(reference("Address")), "shipping_method": optional(reference("ShippingMethod")),
            "fingerprint": text(), "revision": whole(),
        })),
        "Category": object(json!({
            "handle": text(), "name": text(), "description": text(), "parent": optional(text()),
            "image": optional(reference("Image")), "product_count": whole(),
        })),
    })
}
