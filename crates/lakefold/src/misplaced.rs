//! Calls of window functions where SQL has no rows to give them.
//!
//! `DataFusion` finds them too, but late, and then shows its plan.

use std::ops::ControlFlow;

use datafusion::common::plan_datafusion_err;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgOperator, FunctionArguments, GroupByExpr, Query,
    Select, SelectItem, Value, Visit, Visitor,
};

use crate::rewrite::{Functions, KnownFunction, argument_name};

pub(crate) type Check = ControlFlow<Box<DataFusionError>>;

/// The name of a window function called in a part of a statement, subqueries aside.
pub(crate) fn window_call(functions: &Functions, part: &impl Visit) -> Option<String> {
    let mut search = WindowCall {
        functions,
        depth: 0,
    };
    match part.visit(&mut search) {
        ControlFlow::Break(name) => Some(*name),
        ControlFlow::Continue(()) => None,
    }
}

/// Looks at the clauses of one SELECT.
pub(crate) fn check_select(functions: &Functions, select: &Select) -> Check {
    refuse(functions, &select.selection, "WHERE", "WHERE …")?;
    refuse(functions, &select.having, "HAVING", "WHERE …")?;
    for table in &select.from {
        for join in &table.joins {
            refuse(functions, &join.join_operator, "ON", "JOIN … ON …")?;
        }
    }
    let GroupByExpr::Expressions(keys, _) = &select.group_by else {
        return ControlFlow::Continue(());
    };
    for key in keys {
        let tail = "GROUP BY …";
        let expr = selected(select, key).unwrap_or(key);
        refuse(functions, expr, "GROUP BY", tail)?;
    }
    ControlFlow::Continue(())
}

/// The select item that a key of GROUP BY means by its number or alias.
fn selected<'a>(select: &'a Select, key: &Expr) -> Option<&'a Expr> {
    match key {
        Expr::Value(value) => {
            let Value::Number(number, _) = &value.value else {
                return None;
            };
            let place: usize = number.parse().ok()?;
            match select.projection.get(place.checked_sub(1)?)? {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    Some(expr)
                }
                _ => None,
            }
        }
        Expr::Identifier(name) => select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias == name => Some(expr),
            _ => None,
        }),
        _ => None,
    }
}

fn refuse(functions: &Functions, part: &impl Visit, clause: &str, tail: &str) -> Check {
    match window_call(functions, part) {
        Some(name) => stop(plan_datafusion_err!(
            "{name} cannot be used in {clause}, which is decided before there is an embedding: \
             compute it in a subquery, SELECT … FROM (SELECT *, {name}(…) AS y FROM …) {tail}"
        )),
        None => ControlFlow::Continue(()),
    }
}

/// Looks at one call and what it contains.
pub(crate) fn check_function(functions: &Functions, function: &Function) -> Check {
    let known = functions.find(function);
    let name = &function.name;
    let is_window = known.is_some_and(|known| known.is_window);
    let needs_rows = is_window || function.over.is_some() || functions.is_aggregate(function);
    let inner = window_call(functions, &function.args)
        .or_else(|| window_call(functions, &function.over))
        .or_else(|| window_call(functions, &function.filter));
    if needs_rows && let Some(inner) = inner {
        return stop(plan_datafusion_err!(
            "{inner} cannot be used inside {name}(…), because SQL nests no window function in an \
             aggregate or another one: compute it in a subquery, \
             SELECT … {name}(…) FROM (SELECT *, {inner}(…) AS y FROM …)"
        ));
    }
    if is_window && let Some(filter) = &function.filter {
        return stop(plan_datafusion_err!(
            "{name} takes no FILTER: choose its rows in a subquery, \
             SELECT {name}(…) FROM (SELECT * FROM … WHERE {filter})"
        ));
    }
    if let Some(known) = known {
        check_argument_names(function, known)?;
    }
    ControlFlow::Continue(())
}

/// `reg => 0.1` where `options => 'reg=0.1'` is meant.
fn check_argument_names(function: &Function, known: &KnownFunction) -> Check {
    let FunctionArguments::List(list) = &function.args else {
        return ControlFlow::Continue(());
    };
    for argument in &list.args {
        let Some(name) = argument_name(argument) else {
            continue;
        };
        let is_option = known.options.contains(&name) && !known.parameters.contains(&name);
        let value = match argument {
            FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } if is_option => arg,
            _ => continue,
        };
        let value = value.to_string();
        return stop(plan_datafusion_err!(
            "{name} is no argument of {} but an option of it: write options {} '{name}={}'",
            function.name,
            FunctionArgOperator::RightArrow,
            value.trim_matches('\'')
        ));
    }
    ControlFlow::Continue(())
}

fn stop(error: DataFusionError) -> Check {
    ControlFlow::Break(Box::new(error))
}

/// Searches for a window function, but not in the queries inside.
struct WindowCall<'a> {
    functions: &'a Functions,
    depth: usize,
}

impl Visitor for WindowCall<'_> {
    type Break = Box<String>;

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && self
                .functions
                .find(function)
                .is_some_and(|known| known.is_window)
        {
            return ControlFlow::Break(Box::new(function.name.to_string()));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::rewrite::tests::rewritten;

    #[test]
    fn clauses_that_come_before_the_embedding() {
        for (sql, clause) in [
            ("SELECT 1 FROM t WHERE lle_embed(e, 2)[1] > 0", "WHERE"),
            (
                "SELECT g FROM t GROUP BY g HAVING lle_embed(g, 2) IS NULL",
                "HAVING",
            ),
            (
                "SELECT count(*) FROM t GROUP BY lle_embed(e, 2)[1] > 0",
                "GROUP BY",
            ),
            (
                "SELECT lle_embed(e, 2) AS y, count(*) FROM t GROUP BY y",
                "GROUP BY",
            ),
            (
                "SELECT count(*), lle_embed(e, 2) FROM t GROUP BY 2",
                "GROUP BY",
            ),
            ("SELECT 1 FROM t JOIN u ON lle_embed(e, 2)[1] = u.x", "ON"),
        ] {
            let message = rewritten(sql);
            let expected = format!("lle_embed cannot be used in {clause}, which");
            assert!(message.contains(&expected), "{sql}: {message}");
            assert!(message.contains("compute it in a subquery"), "{message}");
        }
        let inner = "SELECT id FROM t WHERE id IN (SELECT id FROM (SELECT id, lle_embed(e, 2) AS y FROM t))";
        assert!(
            rewritten(inner).contains("OVER () AS y"),
            "{}",
            rewritten(inner)
        );
        let groups = "SELECT g, lle_embed(make_array(avg(a), avg(b)), 2) AS y FROM t GROUP BY g, 1";
        assert!(
            rewritten(groups).contains("OVER () AS y"),
            "{}",
            rewritten(groups)
        );
    }

    #[test]
    fn calls_inside_aggregates_and_windows() {
        for (call, outer) in [
            ("sum(lle_embed(e, 2)[1])", "sum"),
            ("SUM(1) FILTER (WHERE lle_embed(e, 2)[1] > 0)", "SUM"),
            ("sum(lle_embed(e, 2)[1]) OVER ()", "sum"),
            ("rank() OVER (ORDER BY lle_embed(e, 2)[1])", "rank"),
            ("lle_embed(lle_embed(e, 5), 2)", "lle_embed"),
        ] {
            let message = rewritten(&format!("SELECT {call} FROM t"));
            let expected = format!("lle_embed cannot be used inside {outer}(…)");
            assert!(message.contains(&expected), "{call}: {message}");
        }
        let scalar = rewritten("SELECT abs(lle_embed(e, 2)[1]) AS y FROM t");
        assert!(scalar.contains("OVER ()"), "{scalar}");
    }

    #[test]
    fn a_filter_belongs_in_a_subquery() {
        for over in ["", " OVER ()"] {
            let message = rewritten(&format!(
                "SELECT lle_embed(e, 2) FILTER (WHERE id > 3){over} FROM t"
            ));
            assert!(
                message.contains("takes no FILTER") && message.contains("WHERE id > 3)"),
                "{message}"
            );
        }
        assert!(rewritten("SELECT sum(x) FILTER (WHERE id > 3) FROM t").starts_with("SELECT"));
    }

    #[test]
    fn options_given_as_arguments() {
        for (argument, expected) in [
            ("reg => 0.1", "write options => 'reg=0.1'"),
            ("Solver => 'exact'", "write options => 'solver=exact'"),
        ] {
            let message = rewritten(&format!("SELECT lle_embed(e, 2, {argument}) FROM t"));
            assert!(message.contains(expected), "{message}");
        }
        let argument = "SELECT lle_embed(e, 2, n_neighbors => 5) AS y FROM t";
        assert!(rewritten(argument).starts_with("SELECT"));
    }
}
