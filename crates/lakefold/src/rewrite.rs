//! What Lakefold's own session adds to SQL, as a pass over the syntax tree.
//!
//! 1. A window function of Lakefold's without OVER gets `OVER ()`.
//! 2. A named argument skipped between others becomes NULL, which means its default: `DataFusion`
//!    itself wants every argument up to the last one given.
//! 3. A `COPY` to a name without an extension writes a directory of Parquet files.
//! 4. A table that is named as an argument of a function in FROM becomes a query of it.
//! 5. A select item with such a call and without an alias is named by its text, where `DataFusion`
//!    would name it by its internals, window frame included.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident,
    ObjectNamePart, Select, SelectItem, TableFactor, Value, VisitMut, VisitorMut, WindowSpec,
    WindowType,
};
use lakefold_lake::expand_home;

use crate::from_functions::tables_to_queries;
use crate::misplaced::{check_function, check_select, window_call};

/// What the pass must know of the session's functions, by name in lower case.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// Lakefold's.
    pub(crate) known: HashMap<String, KnownFunction>,
    /// Everybody's aggregates.
    pub(crate) aggregates: HashSet<String>,
}

/// What the pass must know of one of Lakefold's functions.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownFunction {
    /// Needs OVER.
    pub(crate) is_window: bool,
    /// In order; empty if the function takes none by name.
    pub(crate) parameters: Vec<String>,
    /// What its parameter `options` takes.
    pub(crate) options: Vec<String>,
}

impl Functions {
    pub(crate) fn find(&self, function: &Function) -> Option<&KnownFunction> {
        self.known.get(&called(function)?)
    }

    pub(crate) fn is_aggregate(&self, function: &Function) -> bool {
        called(function).is_some_and(|name| self.aggregates.contains(&name))
    }
}

fn called(function: &Function) -> Option<String> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
        return None;
    };
    Some(match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    })
}

/// Rewrites a statement and whatever it contains.
///
/// # Errors
/// For a call of a window function where SQL has no rows to give it, as in WHERE, and for an option
/// given as an argument.
pub(crate) fn rewrite(statement: &mut Statement, functions: &Functions) -> Result<()> {
    let mut pass = Pass { functions };
    let flow = match statement {
        Statement::Statement(inner) => inner.visit(&mut pass),
        Statement::CopyTo(copy) => {
            copy.target = expand_home(&copy.target);
            let name = copy.target.rsplit('/').next().unwrap_or_default();
            if copy.stored_as.is_none() && !name.contains('.') {
                copy.stored_as = Some("PARQUET".to_owned());
                if !name.is_empty() {
                    copy.target.push('/');
                }
            }
            match &mut copy.source {
                CopyToSource::Query(query) => query.visit(&mut pass),
                CopyToSource::Relation(_) => ControlFlow::Continue(()),
            }
        }
        Statement::Explain(explain) => return rewrite(&mut explain.statement, functions),
        Statement::CreateExternalTable(table) => {
            for location in &mut table.locations {
                *location = expand_home(location);
            }
            ControlFlow::Continue(())
        }
        Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Pass<'a> {
    functions: &'a Functions,
}

impl VisitorMut for Pass<'_> {
    type Break = Box<DataFusionError>;

    // Before the select's expressions change, so that the name is what the user wrote.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        check_select(self.functions, select)?;
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && window_call(self.functions, expr).is_some()
            {
                let alias = Ident::with_quote('"', expr.to_string());
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match tables_to_queries(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(function) => check_function(self.functions, function),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expr
            && let Some(known) = self.functions.find(function)
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
    let positional = list
        .args
        .iter()
        .filter(|arg| argument_name(arg).is_none())
        .count();
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

/// In lower case unless quoted.
pub(crate) fn argument_name(argument: &FunctionArg) -> Option<String> {
    let name = match argument {
        FunctionArg::Named { name, .. }
        | FunctionArg::ExprNamed {
            name: Expr::Identifier(name),
            ..
        } => name,
        FunctionArg::ExprNamed { .. } | FunctionArg::Unnamed(_) => return None,
    };
    Some(match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    pub(crate) fn rewritten(sql: &str) -> String {
        let names = ["features", "n_components", "n_neighbors", "options"];
        let lle_embed = KnownFunction {
            is_window: true,
            parameters: names.map(str::to_owned).to_vec(),
            options: ["reg", "solver", "n_neighbors"].map(str::to_owned).to_vec(),
        };
        let functions = Functions {
            known: HashMap::from([
                ("lle_embed".to_owned(), lle_embed),
                ("softmax".to_owned(), KnownFunction::default()),
            ]),
            aggregates: HashSet::from(["sum", "count"].map(str::to_owned)),
        };
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        match rewrite(&mut statement, &functions) {
            Ok(()) => statement.to_string(),
            Err(error) => error.strip_backtrace(),
        }
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
            assert!(
                rewritten(&sql).contains("lle_embed(e, 2) OVER () AS y"),
                "{sql}"
            );
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
        for arguments in [
            "e, n_components => 2",
            "e, 2, n_neighbors => 9",
            "e, 2, k => 9",
            "e",
        ] {
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
        assert_eq!(
            rewritten("COPY (SELECT 1) TO 'a.b/out'"),
            "COPY (SELECT 1) TO a.b/out/ STORED AS PARQUET"
        );
        assert_eq!(
            rewritten("COPY (SELECT 1) TO 'out.csv'"),
            "COPY (SELECT 1) TO out.csv"
        );
    }
}
