//! The OpenAPI document, made from the table of paths (`api`) and from the bounds of the code.

use std::sync::LazyLock;

use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use protocol::AccountNum;
use protocol::request::REQUEST_ID_BYTES_MAX;
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::api::{Answers, NUMBER_MAX, OPERATIONS, Operation, Parameter, Schema, Takes};
use crate::limits::LIST_ROWS;

/// The kinds of body that a POST may have.
const BODIES: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// `GET /openapi.json`.
pub async fn answer() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        // The document has no word for "the rest of the path".
        let path = operation.path.replace("{*", "{");
        let method = operation.method.as_str().to_ascii_lowercase();
        paths.entry(path.clone()).or_insert_with(|| json!({}))[method] = describe(operation, &path);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The bank's bridge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "REST over the branch protocol. Parameters of POST come as a form or as a JSON object, those \
                of GET in the query. Each is given once; filters that are not listed are refused. Every error has a \
                sentence and a stable code. A branch is named by branch, or by host and port as older programs do \
                (port alone means the bridge's own machine); a customer may leave it out. A write may carry the header \
                Idempotency-Key in place of request_id.",
        },
        "security": [{"basic": []}, {"cookie": [], "csrf": []}],
        "paths": paths,
        "components": {
            "securitySchemes": security_schemes(),
            "schemas": schemas(),
            "responses": {"Refused": {
                "description": "Refused: a sentence and a code.",
                "content": {"application/json": {"schema": reference("Error")}},
            }},
        },
    })
}

fn describe(operation: &Operation, path: &str) -> Value {
    let access = match operation.access {
        Access::Anyone => "anyone",
        Access::OwnAccount => "own account",
        Access::Administrator => "administrator",
    };
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "x-access": access,
        "responses": {"200": answers(&operation.answers), "default": {"$ref": "#/components/responses/Refused"}},
    });
    if operation.access == Access::Anyone {
        described["security"] = json!([]);
    }
    let mut parameters: Vec<Value> = parameters_of_path(path).collect();
    if operation.method == Method::GET {
        parameters.extend(operation.takes.iter().map(|takes| match takes {
            Takes::One(parameter) => in_query(parameter),
            Takes::Branch(_) | Takes::DelayOf(..) => unreachable!("these are of bodies"),
        }));
    } else if !operation.takes.is_empty() {
        let content: Map<String, Value> =
            BODIES.into_iter().map(|kind| (kind.to_string(), json!({"schema": body(operation.takes)}))).collect();
        described["requestBody"] = json!({"required": true, "content": content});
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described
}

fn answers(answers: &Answers) -> Value {
    let text = || json!({"schema": {"type": "string"}});
    let mut content = Map::new();
    let description = match answers {
        Answers::Json | Answers::JsonOr(_) => {
            content.insert("application/json".into(), json!({"schema": reference("Ok")}));
            if let Answers::JsonOr(kind) = answers {
                content.insert((*kind).into(), text());
            }
            "Done."
        }
        Answers::Document => {
            content.insert("application/json".into(), json!({"schema": {"type": "object"}}));
            "This document."
        }
        Answers::Other(description, kinds) => {
            content.extend(kinds.iter().map(|kind| ((*kind).to_string(), text())));
            description
        }
    };
    json!({"description": description, "content": content})
}

/// What stands in the path between braces, by its name alone.
fn parameters_of_path(path: &str) -> impl Iterator<Item = Value> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| {
        let schema = match name {
            "branch" => reference("Branch"),
            "txid" => reference("Txid"),
            "name" => json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$"}),
            "file" => json!({"type": "string", "pattern": "^[a-z][a-z0-9_/.-]*$"}),
            _ => unreachable!("{name} stands in a path and has no type"),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    })
}

fn in_query(parameter: &Parameter) -> Value {
    let mut described = json!({"name": parameter.name, "in": "query", "schema": schema(&parameter.schema)});
    if parameter.is_needed {
        described["required"] = true.into();
    }
    if !parameter.description.is_empty() {
        described["description"] = parameter.description.into();
    }
    described
}

/// The object of these parameters, with what holds between them.
fn body(takes: &[Takes]) -> Value {
    let (mut properties, mut needed, mut rules) = (Map::new(), Vec::new(), Vec::new());
    for takes in takes {
        match takes {
            Takes::One(parameter) => {
                let mut described = schema(&parameter.schema);
                if !parameter.description.is_empty() {
                    described["description"] = parameter.description.into();
                }
                properties.insert(parameter.name.into(), described);
                if parameter.is_needed {
                    needed.push(parameter.name);
                }
            }
            Takes::Branch(prefix) => {
                let [branch, host, port] = ["branch", "host", "port"].map(|name| format!("{prefix}{name}"));
                rules.push(json!({
                    "oneOf": [{"required": [&branch]}, {"required": [&port]}],
                    "dependentRequired": {&host: [&port]},
                }));
                properties.insert(branch, reference("Branch"));
                properties.insert(host, reference("Host"));
                properties.insert(port, reference("Port"));
            }
            Takes::DelayOf(name, value) => {
                let words = properties[*name]["enum"].as_array().into_iter().flatten();
                let others: Vec<&Value> = words.filter(|word| *word != value).collect();
                rules.push(json!({"oneOf": [
                    {"properties": {*name: {"const": value}}, "required": ["delay_ms"]},
                    {"properties": {*name: {"enum": others}, "delay_ms": false}},
                ]}));
                properties.insert("delay_ms".into(), reference("Milliseconds"));
            }
        }
    }
    let mut object = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !needed.is_empty() {
        object["required"] = needed.into();
    }
    match &mut rules[..] {
        [] => {}
        [Value::Object(rule)] => object.as_object_mut().expect("an object was made").append(rule),
        _ => object["allOf"] = rules.into(),
    }
    object
}

fn schema(schema: &Schema) -> Value {
    match schema {
        Schema::Shared(name) => reference(name),
        Schema::Word(words) => json!({"type": "string", "enum": words}),
        Schema::Flag => json!({"type": "boolean"}),
        Schema::Number(least, most) => number(*least, *most),
        Schema::Digits(least) => digits(*least),
        Schema::Text { least, most, form } => {
            let mut text = json!({"type": "string"});
            for (word, bound) in [("minLength", least), ("maxLength", most)] {
                if *bound > 0 {
                    text[word] = (*bound).into();
                }
            }
            if !form.is_empty() {
                text["pattern"] = (*form).into();
            }
            text
        }
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn number(least: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

/// Something that is written as a text of this form, or as a number between these two.
fn text_or_number(form: &str, least: u64, most: u64) -> Value {
    json!({"anyOf": [{"type": "string", "pattern": form}, number(least, most)]})
}

fn digits(least: u64) -> Value {
    let form = if least == 0 { "^(0|[1-9][0-9]{0,14})$" } else { "^[1-9][0-9]{0,14}$" };
    text_or_number(form, least, AccountNum::MAX)
}

fn security_schemes() -> Value {
    json!({
        "basic": {"type": "http", "scheme": "basic", "description": "0, 1001 or Mumbai/1001, and the password."},
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "bank_session_5000",
            "description": "The name ends with the port by which the bridge is asked.",
        },
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRF-Token",
            "description": "The csrf of GET /session; for every request that is not GET.",
        },
    })
}

/// The types that several operations have.
fn schemas() -> Value {
    /// The largest whole rupees of which every amount can be written.
    const RUPEES_MAX: u64 = 99_999_999_999_999;
    let told = |mut schema: Value, description: &str| {
        schema["description"] = description.into();
        schema
    };
    let text = |least, most, form| schema(&Schema::Text { least, most, form });
    let page = "The `next` of the page before.";
    json!({
        "Ok": {
            "type": "object",
            "required": ["status", "result"],
            "properties": {
                "status": {"const": "ok"},
                "result": {},
                "next": {"description": "Where a list goes on: give it back as after."},
            },
        },
        "Error": {
            "type": "object",
            "required": ["status", "error", "code"],
            "properties": {
                "status": {"const": "error"},
                "error": {"type": "string", "description": "One sentence for a person."},
                "code": {"type": "string", "description": "A stable name for programs."},
                "request_id": {
                    "type": "string",
                    "description":
                        "With outcome_unknown: the id under which the request can be repeated without harm.",
                },
            },
        },
        "Branch": told(text(0, 0, "^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"), "A branch's name."),
        "Host": told(
            text(1, 253, "^[A-Za-z0-9.:\\[\\]_-]+$"),
            "A branch's host, instead of its name; the bridge's own machine when there is only a port.",
        ),
        "Port": told(number(1, u16::MAX.into()), "A branch's port, instead of its name."),
        "Account": told(digits(1), "An account's number."),
        "Amount": told(
            text_or_number("^([1-9][0-9]{0,13}(\\.[0-9]{1,2})?|0\\.(0[1-9]|[1-9][0-9]?))$", 1, RUPEES_MAX),
            "More than zero, at most two decimals. A text, or in JSON a number without an exponent, with at most two \
             decimals; read digit for digit.",
        ),
        "OpeningBalance": told(
            text_or_number("^(0|[1-9][0-9]{0,13})(\\.[0-9]{1,2})?$", 0, RUPEES_MAX),
            "As an amount, and may be zero.",
        ),
        "RequestId": told(
            text(1, REQUEST_ID_BYTES_MAX as u64, "^[ -~]+$"),
            "Makes the write idempotent: a repeat of the same person's under the same id gets the first one's answer.",
        ),
        "Txid": told(text(0, 0, "^[A-Za-z0-9_.:-]{1,64}$"), "A transfer's id."),
        "Limit": told(number(1, LIST_ROWS as u64), "At most so many rows."),
        "After": told(number(0, NUMBER_MAX), page),
        "AfterAccount": told(digits(1), page),
        "Date": told(
            text(0, 0, "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}(:[0-9]{2}(:[0-9]{2}(\\.[0-9]{3}Z)?)?)?)?$"),
            "An ISO date or time (UTC).",
        ),
        "Password": text(1, 128, ""),
        "Milliseconds": number(0, 600_000),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every name that the document refers to.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_string));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_to_something() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn an_operation_is_described_in_full() {
        let document = document();
        let step = &document["paths"]["/teaching/{branch}/step"]["post"];
        assert_eq!(step["x-access"], "administrator");
        assert_eq!(
            step["parameters"][0],
            json!({
                "name": "branch", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/Branch"},
            })
        );
        let body = &step["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(body["required"], json!(["number", "how"]));
        assert_eq!(body["oneOf"][1]["properties"]["how"]["enum"], json!(["deliver", "drop", "duplicate"]));
        let transfer = &document["paths"]["/transfer"]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(transfer["allOf"][1]["dependentRequired"], json!({"dest_host": ["dest_port"]}));
        assert_eq!(document["paths"]["/assets/{file}"]["get"]["security"], json!([]));
    }
}
