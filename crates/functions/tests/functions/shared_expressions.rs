//! Errors name what was written where the optimizer computes an expression once for several places.

use datafusion::prelude::SessionConfig;

use crate::support::{error, plan, session};

const TABLE: &str =
    "(VALUES (1, 'a', [1.0, 0.0], [1.0, 2.0]), (2, 'a', [1.0, 0.0], ['NaN'::DOUBLE, 4.0]),
    (3, 'a', [1.0, 0.0], [5.0, 6.0]), (4, 'a', [1.0, 0.0], [7.0, 9.0])) AS t (id, g, q, k)";

#[tokio::test]
async fn arguments_and_keys_are_named_as_they_were_written() {
    let ctx = session(SessionConfig::new());
    for (select, expected) in [
        (
            "self_attention(q, CAST(k AS FLOAT[]), CAST(k AS FLOAT[])) OVER ()",
            "has a score of NaN with the key t.k of row 1 ",
        ),
        (
            "attention(q, CAST(k AS FLOAT[]), CAST(k AS FLOAT[]))",
            "its query q or key t.k holds NaN or infinity",
        ),
        (
            "attention(q, array_concat(k, [id, id]), array_concat(k, [id, id]))",
            "key array_concat(t.k,make_array(t.id,t.id)) has 4",
        ),
        (
            "lle_embed(CAST(k AS FLOAT[]), 1) OVER (PARTITION BY upper(g)),
             lle_embed(CAST(k AS FLOAT[]), 1, 2) OVER (PARTITION BY upper(g))",
            "lle_embed of column t.k where upper(t.g) = 'A': row 1 ",
        ),
        // Its rows are told apart by their other columns, of which a shared one is none.
        (
            "upper(g) AS a, upper(g) AS b, self_attention(q, k, q) OVER (PARTITION BY upper(g))",
            "with the key k of row 1 of its batch (counted from 0, g = 'a'):",
        ),
        (
            "self_attention(q, q, k, abs(id) + 1) OVER (), self_attention(q, k, k, abs(id) + 2) OVER ()",
            "scale of self_attention must be a constant, got an expression of columns: write the value",
        ),
    ] {
        let sql = format!("SELECT {select} FROM {TABLE}");
        let found = error(&ctx, &sql).await;
        assert!(found.contains(expected), "{select}: {found}");
        assert!(!found.contains("__"), "{select}: {found}");
    }
}

/// Without which the test above would show nothing.
#[tokio::test]
async fn the_optimizer_does_share_them() {
    let ctx = session(SessionConfig::new());
    for call in [
        "self_attention(q, CAST(k AS FLOAT[]), CAST(k AS FLOAT[])) OVER ()",
        "attention(q, CAST(k AS FLOAT[]), CAST(k AS FLOAT[]))",
    ] {
        let plan = plan(&ctx, &format!("SELECT {call} FROM {TABLE}")).await;
        assert!(plan.contains("as __common_expr_"), "{plan}");
    }
}
