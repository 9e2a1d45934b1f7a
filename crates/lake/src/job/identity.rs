//! What a job's output depends on, and what its files say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::parquet::file::metadata::KeyValue;

use super::chunks::Chunk;
use super::digest::sha256;
use super::footers::InputFile;
use super::manifest::{Definition, OUTPUT_VERSION, job_id};
use super::plan::JobPlan;
use super::spec::{Format, OnInvalid};

/// Metadata that Lakefold writes.
const OWN_KEYS: &str = "lakefold.";

/// Of a mark: enough that no two of a name's contents ever share one.
const MARK_DIGITS: usize = 16;

/// Whether the output says it again: not how the input's columns were, or what an earlier job did.
fn is_passed_on(key: &str) -> bool {
    key != "ARROW:schema" && !key.starts_with(OWN_KEYS)
}

impl JobPlan {
    /// What the bytes of the output depend on, beside the input. Models go by their contents.
    pub(crate) fn define(&self, select: &str) -> Definition {
        let job = &self.job;
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let by_content = |text: &str| {
            self.models.iter().fold(text.to_owned(), |text, model| {
                text.replace(
                    &quoted(&model.name),
                    &quoted(&format!("model {}", model.id)),
                )
            })
        };
        let text = |value: &str| serde_json::Value::from(value.to_owned());
        let mut ids: Vec<String> = self.models.iter().map(|model| model.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let encoding: BTreeMap<&String, String> = job
            .encoding
            .iter()
            .map(|(column, encoding)| (column, format!("{encoding:?}")))
            .collect();
        [
            ("output_version", OUTPUT_VERSION.into()),
            ("select", text(&by_content(select))),
            (
                "where",
                job.filter
                    .as_deref()
                    .map(by_content)
                    .map_or(serde_json::Value::Null, serde_json::Value::from),
            ),
            (
                "on_invalid",
                text(match job.on_invalid {
                    OnInvalid::Error => "error",
                    OnInvalid::Null => "null",
                }),
            ),
            ("models", ids.into()),
            ("chunk_rows", job.chunk_rows.get().into()),
            ("chunk_bytes", job.chunk_bytes.bytes().into()),
            ("row_group_rows", job.row_group_rows.get().into()),
            ("row_group_bytes", job.row_group_bytes.bytes().into()),
            ("compression", text(job.compression.as_str())),
            (
                "encoding",
                serde_json::to_value(encoding).unwrap_or_default(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The definition as the output's directory keeps it: also what it is a directory of. The files' bytes
    /// do not depend on that.
    pub(crate) fn kept_definition(&self) -> Definition {
        let mut definition = self.definition.clone();
        if self.job.format == Format::Delta {
            definition.insert("format".to_owned(), "delta".into());
        }
        definition
    }

    /// What tells files of one name apart in a Delta Lake table, where a name may stand for one content
    /// only, because older versions of the table still read it: job and version of the input file.
    pub(crate) fn mark(&self, file: &InputFile) -> String {
        let stamp = &file.stamp;
        let text = format!(
            "{} {} {} {}",
            job_id(&self.definition),
            stamp.bytes,
            stamp.version,
            stamp.footer
        );
        sha256(text.as_bytes())[..MARK_DIGITS].to_owned()
    }

    /// The columns of the output, with what the input file's schema says of the whole table. Some readers
    /// look for it there, some in the file's metadata, so it is in both.
    pub(crate) fn output_schema(&self, chunk: &Chunk, columns: &SchemaRef) -> SchemaRef {
        let said = self.file_of(chunk).schema.metadata().iter();
        let said = said.filter(|(key, _)| is_passed_on(key));
        let said = said.map(|(key, value)| (key.clone(), value.clone()));
        let columns = Schema::new(columns.fields().clone());
        Arc::new(columns.with_metadata(said.collect()))
    }

    /// What the output file says about itself, beside its columns: nothing that depends on when, where
    /// or by whom it was written.
    pub(crate) fn key_values(&self, chunk: &Chunk) -> Vec<KeyValue> {
        let file = self.file_of(chunk);
        let definition = serde_json::to_string(&self.definition).unwrap_or_default();
        let groups = &chunk.row_groups;
        let own = [
            ("lakefold.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("lakefold.job", job_id(&self.definition)),
            ("lakefold.parameters", definition),
            (
                "lakefold.models",
                self.models
                    .iter()
                    .map(|model| model.id.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            ("lakefold.input", file.stamp.path.clone()),
            ("lakefold.input.bytes", file.stamp.bytes.to_string()),
            ("lakefold.input.footer", file.stamp.footer.clone()),
            (
                "lakefold.input.row_groups",
                format!("{}..{}", groups.start, groups.end),
            ),
        ];
        let passed_on = file.key_values.iter();
        let passed_on = passed_on.filter(|pair| is_passed_on(&pair.key));
        let mut pairs: Vec<KeyValue> = passed_on.cloned().collect();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        pairs.extend(own.map(|(key, value)| KeyValue::new(key.to_owned(), value)));
        pairs
    }
}
