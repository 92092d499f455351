//! The OpenAPI document: a file of its own, built in.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::AccountNum;
    use protocol::request::REQUEST_ID_BYTES_MAX;
    use serde_json::Value;

    use super::*;
    use crate::access::{Access, TABLE};
    use crate::limits::LIST_ROWS;

    #[test]
    fn every_path_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(!operation["summary"].as_str().unwrap().is_empty());
                let access = operation["x-access"].as_str().unwrap().to_string();
                described.insert((method.to_uppercase(), path.clone(), access));
            }
        }
        let row = |(method, path, access): &(axum::http::Method, &str, Access)| {
            let access = match access {
                Access::Anyone => "anyone",
                Access::OwnAccount => "own account",
                Access::Administrator => "administrator",
            };
            (method.to_string(), path.replace("{*file}", "{file}"), access.to_string())
        };
        let table: BTreeSet<_> = TABLE.iter().map(row).collect();
        assert_eq!(described, table);
    }

    #[test]
    fn operations_have_names_and_bounds_are_those_of_the_code() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let names: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Limit"]["maximum"], LIST_ROWS);
        assert_eq!(schemas["RequestId"]["maxLength"], REQUEST_ID_BYTES_MAX);
        assert_eq!(schemas["Account"]["anyOf"][1]["maximum"], AccountNum::MAX);
    }

    #[test]
    fn parameters_of_paths_are_described() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let in_path = path.matches('{').count();
            for operation in methods.as_object().unwrap().values() {
                let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
                assert_eq!(parameters.iter().filter(|one| one["in"] == "path").count(), in_path, "{path}");
            }
        }
    }
}
