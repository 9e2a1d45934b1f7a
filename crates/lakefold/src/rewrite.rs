//! What Lakefold's own session adds to SQL, as a pass over the syntax tree.
//!
//! 1. A window function of Lakefold's without OVER gets `OVER ()`.
//! 2. A named argument skipped between others becomes NULL, which means its default: DataFusion
//!    itself wants every argument up to the last one given.
//! 3. A select item with such a call and without an alias is named by its text, where DataFusion
//!    would name it by its internals, window frame included.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident,
    ObjectNamePart, Select, SelectItem, Value, VisitMut, VisitorMut, WindowSpec, WindowType,
    visit_expressions,
};
use lakefold_lake::expand_home;

/// Lakefold's functions, by name in lower case.
pub(crate) type FunctionNames = HashMap<String, KnownFunction>;

/// What the pass must know of a function.
#[derive(Debug, Clone)]
pub(crate) struct KnownFunction {
    /// Needs OVER.
    pub(crate) is_window: bool,
    /// In order; empty if the function takes none by name.
    pub(crate) parameters: Vec<String>,
}

/// Rewrites a statement and whatever it contains.
pub(crate) fn rewrite(statement: &mut Statement, functions: &FunctionNames) {
    let mut pass = Pass { functions };
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.visit(&mut pass);
        }
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                let _ = query.visit(&mut pass);
            }
            copy.target = expand_home(&copy.target);
            // A directory without a format is a lake directory.
            if copy.stored_as.is_none() && copy.target.ends_with('/') {
                copy.stored_as = Some("PARQUET".to_owned());
            }
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement, functions),
        Statement::CreateExternalTable(table) => {
            for location in &mut table.locations {
                *location = expand_home(location);
            }
        }
        Statement::Reset(_) => {}
    }
}

struct Pass<'a> {
    functions: &'a FunctionNames,
}

impl Pass<'_> {
    fn find(&self, function: &Function) -> Option<&KnownFunction> {
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
            return None;
        };
        if name.quote_style.is_some() {
            return self.functions.get(&name.value);
        }
        self.functions.get(&name.value.to_lowercase())
    }

    fn has_window_call(&self, expr: &Expr) -> bool {
        let found = visit_expressions(expr, |expr| match expr {
            Expr::Function(function) if self.find(function).is_some_and(|known| known.is_window) => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    }
}

impl VisitorMut for Pass<'_> {
    type Break = ();

    // Before the select's expressions change, so that the name is what the user wrote.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && self.has_window_call(expr)
            {
                let alias = Ident::with_quote('"', expr.to_string());
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let Some(known) = self.find(function)
        {
            if known.is_window && function.over.is_none() {
                function.over = Some(WindowType::WindowSpec(WindowSpec {
                    window_name: None,
                    partition_by: Vec::new(),
                    order_by: Vec::new(),
                    window_frame: None,
                }));
            }
            fill_skipped(&mut function.args, &known.parameters);
        }
        ControlFlow::Continue(())
    }
}

/// Adds `name => NULL` for each parameter before the last one given that is not given itself.
fn fill_skipped(arguments: &mut FunctionArguments, parameters: &[String]) {
    let FunctionArguments::List(list) = arguments else {
        return;
    };
    let positional = list.args.iter().filter(|arg| argument_name(arg).is_none()).count();
    let given: Vec<usize> = list
        .args
        .iter()
        .filter_map(argument_name)
        .filter_map(|name| parameters.iter().position(|parameter| *parameter == name))
        .collect();
    let Some(&last) = given.iter().max() else {
        return;
    };
    let skipped = (positional..last).filter(|index| !given.contains(index));
    list.args.extend(skipped.map(|index| FunctionArg::Named {
        name: Ident::new(&parameters[index]),
        arg: FunctionArgExpr::Expr(Expr::Value(Value::Null.into())),
        operator: FunctionArgOperator::RightArrow,
    }));
}

fn argument_name(argument: &FunctionArg) -> Option<String> {
    let name = match argument {
        FunctionArg::Named { name, .. } => name,
        FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => name,
        FunctionArg::ExprNamed { .. } | FunctionArg::Unnamed(_) => return None,
    };
    Some(match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let names = ["features", "n_components", "n_neighbors", "options"];
        let lle_embed = KnownFunction {
            is_window: true,
            parameters: names.map(str::to_owned).to_vec(),
        };
        let softmax = KnownFunction { is_window: false, parameters: Vec::new() };
        let functions = HashMap::from([
            ("lle_embed".to_owned(), lle_embed),
            ("softmax".to_owned(), softmax),
        ]);
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        rewrite(&mut statement, &functions);
        statement.to_string()
    }

    #[test]
    fn a_bare_call_gets_a_window_and_a_name() {
        assert_eq!(
            rewritten("SELECT id, lle_embed(e,2) FROM t"),
            r#"SELECT id, lle_embed(e, 2) OVER () AS "lle_embed(e, 2)" FROM t"#
        );
        assert_eq!(
            rewritten("SELECT LLE_Embed(e, 2)[1] AS x FROM t ORDER BY lle_embed(e, 2)[2]"),
            "SELECT LLE_Embed(e, 2) OVER ()[1] AS x FROM t ORDER BY lle_embed(e, 2) OVER ()[2]"
        );
    }

    #[test]
    fn a_window_of_the_user_stays() {
        assert_eq!(
            rewritten("SELECT lle_embed(e, 2) OVER (PARTITION BY g) AS y FROM t"),
            "SELECT lle_embed(e, 2) OVER (PARTITION BY g) AS y FROM t"
        );
        assert_eq!(
            rewritten("SELECT lle_embed(e, 2) OVER w FROM t WINDOW w AS (PARTITION BY g)"),
            "SELECT lle_embed(e, 2) OVER w AS \"lle_embed(e, 2) OVER w\" FROM t WINDOW w AS (PARTITION BY g)"
        );
    }

    #[test]
    fn everything_else_stays() {
        for sql in [
            "SELECT softmax(e), sum(x) OVER (), count(*) FROM t",
            "SELECT my.lle_embed(e, 2) FROM t",
            "SELECT lle_embed FROM t",
            "SELECT 'lle_embed(e, 2)' FROM t",
        ] {
            assert_eq!(rewritten(sql), sql);
        }
    }

    #[test]
    fn calls_are_found_wherever_a_query_can_be() {
        let call = "lle_embed(e, 2) AS y FROM t";
        for (before, after) in [
            ("SELECT * FROM (SELECT ", ")"),
            ("WITH c AS (SELECT ", ") SELECT * FROM c"),
            ("COPY (SELECT ", ") TO out/ STORED AS PARQUET"),
            ("EXPLAIN SELECT ", ""),
            ("CREATE TABLE n AS SELECT ", ""),
            ("CREATE VIEW v AS SELECT ", ""),
            ("INSERT INTO n SELECT ", ""),
            ("SELECT 1 AS y UNION ALL SELECT ", ""),
            ("SELECT (SELECT ", " LIMIT 1)"),
        ] {
            let sql = format!("{before}{call}{after}");
            let sql = sql.replace("TO out/", "TO 'out/'");
            assert!(rewritten(&sql).contains("lle_embed(e, 2) OVER () AS y"), "{sql}");
        }
        let sql = "EXPLAIN COPY (SELECT lle_embed(e, 2) AS y FROM t) TO 'out/' STORED AS PARQUET";
        assert!(rewritten(sql).contains("OVER ()"), "{}", rewritten(sql));
    }

    #[test]
    fn skipped_arguments_are_null() {
        assert_eq!(
            rewritten("SELECT lle_embed(e, n_components => 2, options => 'reg=0.1') AS y FROM t"),
            "SELECT lle_embed(e, n_components => 2, options => 'reg=0.1', n_neighbors => NULL) OVER () AS y FROM t"
        );
        assert_eq!(
            rewritten("SELECT lle_embed(e, Options => 'reg=1') AS y FROM t"),
            "SELECT lle_embed(e, Options => 'reg=1', n_components => NULL, n_neighbors => NULL) OVER () AS y FROM t"
        );
        // Nothing to fill, and a wrong name is for DataFusion to report.
        for arguments in ["e, n_components => 2", "e, 2, n_neighbors => 9", "e, 2, k => 9", "e"] {
            assert_eq!(
                rewritten(&format!("SELECT lle_embed({arguments}) AS y FROM t")),
                format!("SELECT lle_embed({arguments}) OVER () AS y FROM t")
            );
        }
    }

    #[test]
    fn a_directory_is_written_as_parquet() {
        assert_eq!(
            rewritten("COPY (SELECT 1) TO 'out/'"),
            "COPY (SELECT 1) TO out/ STORED AS PARQUET"
        );
        assert_eq!(rewritten("COPY (SELECT 1) TO 'out.csv'"), "COPY (SELECT 1) TO out.csv");
    }
}
