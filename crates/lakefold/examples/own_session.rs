//! Lakefold's functions in a `DataFusion` session of one's own.
//!
//! Run with `cargo run -p lakefold --example own_session`. Here OVER is needed, as for any window
//! function: only `lakefold::Session` understands `lle_embed` without it.

use datafusion::prelude::{SessionConfig, SessionContext};

#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    lakefold::register_all(&context)?;

    // 300 points of a spiral band in three dimensions.
    let points = "CREATE TABLE points AS
        SELECT value AS id,
               make_array(cos(value / 30.0) * value, sin(value / 30.0) * value, (value * 37) % 50) AS position
        FROM generate_series(1, 300)";
    context.sql(points).await?.collect().await?;

    let embedded = context
        .sql(
            "SELECT id, lle_embed(position, n_components => 2, n_neighbors => 8) OVER () AS embedding
             FROM points
             ORDER BY id
             LIMIT 5",
        )
        .await?;
    embedded.show().await
}
