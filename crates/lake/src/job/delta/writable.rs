//! What a table demands of those who write to it.

use datafusion::common::plan_err;
use datafusion::error::Result;
use deltalake::table::state::DeltaTableState;

/// Features of tables that demand nothing of who adds and removes whole files, unless a setting or a
/// column says so, which is looked for.
const KNOWN_FEATURES: [&str; 12] = [
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "identityColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Settings of a column that its writer has to keep.
const COLUMN_RULES: [&str; 3] = [
    "delta.invariants",
    "delta.generationExpression",
    "delta.identity.start",
];

/// # Errors
/// When rows that are added would have to be checked or marked in ways that a job does not do.
pub(super) fn check_writable(table: &DeltaTableState, text: &str) -> Result<()> {
    let refused = |what: String| {
        plan_err!(
            "the Delta Lake table '{text}' has {what}, which a job does not keep: write to a table of its \
             own, and from there with the program that made this one"
        )
    };
    let features = table.protocol().writer_features().unwrap_or_default();
    let unknown = features
        .iter()
        .map(ToString::to_string)
        .find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()));
    if let Some(feature) = unknown {
        return refused(format!("the feature '{feature}'"));
    }
    let settings = table.metadata().configuration();
    if let Some(name) = settings
        .keys()
        .find(|key| key.starts_with("delta.constraints."))
    {
        return refused(format!("a CHECK constraint ({name})"));
    }
    let mapping = settings.get("delta.columnMapping.mode");
    if mapping.is_some_and(|mode| mode != "none") {
        return refused("column mapping".to_owned());
    }
    for field in table.schema().fields() {
        for rule in COLUMN_RULES {
            if field.metadata().contains_key(rule) {
                return refused(format!("'{rule}' on its column '{}'", field.name()));
            }
        }
        if !field.is_nullable() {
            return refused(format!("a column '{}' that is NOT NULL", field.name()));
        }
    }
    Ok(())
}
