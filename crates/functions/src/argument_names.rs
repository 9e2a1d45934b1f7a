//! Expressions as they were written, for messages.
//!
//! Where a query computes an expression in several places, `DataFusion`'s optimizer computes it once, below, and puts
//! a column of a made-up name in its place. What was written is then known from the name of the call alone.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;

/// How made-up names begin: of common subexpressions, and of fields taken out of structs.
const MADE_UP: [&str; 2] = ["__common_expr_", "__datafusion_extracted_"];

/// What the optimizer, and nobody else, calls a column.
pub(crate) fn is_made_up(column: &str) -> bool {
    MADE_UP.iter().any(|start| column.starts_with(start))
}

/// The expression, unless made-up names occur in it.
pub(crate) fn own_name(expression: &Arc<dyn PhysicalExpr>) -> Option<String> {
    let name = fmt_sql(expression.as_ref()).to_string();
    let made_up = MADE_UP.iter().any(|start| name.contains(start));
    (!made_up).then_some(name)
}

/// Argument `place` of the call that `DataFusion` names `call`, empty where it tells no name; `parameter` if nothing
/// else is known.
pub(crate) fn argument_name(
    arguments: &[Arc<dyn PhysicalExpr>],
    place: usize,
    call: &str,
    parameter: &str,
) -> String {
    written(arguments, place, call, ("(", ')')).unwrap_or_else(|| parameter.to_owned())
}

/// PARTITION BY key `place` of a call of a window function.
pub(crate) fn partition_key_name(
    keys: &[Arc<dyn PhysicalExpr>],
    place: usize,
    call: &str,
) -> String {
    written(keys, place, call, ("PARTITION BY [", ']'))
        .unwrap_or_else(|| "PARTITION BY key".to_owned())
}

fn written(
    expressions: &[Arc<dyn PhysicalExpr>],
    place: usize,
    call: &str,
    (open, close): (&str, char),
) -> Option<String> {
    if let Some(name) = own_name(expressions.get(place)?) {
        return Some(name);
    }
    let list = listed(call.split_once(open)?.1, close)?;
    // A name with a comma in it makes more of them.
    let whole = list.len() == expressions.len();
    let name = *list.get(place).filter(|_| whole)?;
    let made_up = MADE_UP.iter().any(|start| name.contains(start));
    (!made_up).then(|| name.to_owned())
}

/// What stands between commas, outside of brackets and quotes, up to `close`.
fn listed(text: &str, close: char) -> Option<Vec<&str>> {
    let (mut list, mut start) = (vec![], 0);
    let (mut depth, mut quote) = (0_usize, None);
    for (at, character) in text.char_indices() {
        match (character, quote) {
            (_, Some(open)) => quote = quote.filter(|_| character != open),
            ('"' | '\'', None) => quote = Some(character),
            (',', None) if depth == 0 => {
                list.push(text[start..at].trim());
                start = at + 1;
            }
            (end, None) if depth == 0 && end == close => {
                list.push(text[start..at].trim());
                return Some(list);
            }
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_expr::expressions::Column;

    fn columns(names: &[&str]) -> Vec<Arc<dyn PhysicalExpr>> {
        let column = |name: &&str| Arc::new(Column::new(name, 0)) as _;
        names.iter().map(column).collect()
    }

    #[test]
    fn a_shared_argument_has_the_name_that_the_call_gives_it() {
        let arguments = columns(&["q", "__common_expr_1", "__datafusion_extracted_2"]);
        let call = "f(t.q,make_array(t.a, t.b),t.s[v]) PARTITION BY [upper(t.g), t.h] ROWS BETWEEN 1 AND 2";
        let name = |place, call| argument_name(&arguments, place, call, "key");
        assert_eq!(name(0, call), "q");
        assert_eq!(name(1, call), "make_array(t.a, t.b)");
        assert_eq!(name(2, call), "t.s[v]");
        for unknown in [
            "",
            "my own name",
            "f(t.q,t.k,t.v",
            "f(t.q,t.k)",
            "f(q,__common_expr_1,v)",
            "f(q]",
        ] {
            assert_eq!(name(1, unknown), "key", "{unknown}");
        }
        assert_eq!(name(1, "f(q,Utf8(\"a,(b\"),v)"), "Utf8(\"a,(b\")");
        let keys = columns(&["__common_expr_3", "h"]);
        assert_eq!(partition_key_name(&keys, 0, call), "upper(t.g)");
        assert_eq!(partition_key_name(&keys, 1, call), "h");
        assert_eq!(partition_key_name(&keys, 0, "f(q)"), "PARTITION BY key");
    }
}
