//! What is written of a job, and by which job: `_lakefold/manifest.json`.
//!
//! Before a chunk is shown, a record with its checksum is put beside the manifest, in `_lakefold/chunks/`.
//! A crash therefore leaves records without files, which are done again, and never a file without a
//! record. At the end of a run the records move into the manifest, which is written whole.

use std::collections::BTreeMap;
use std::ops::Range;

use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use super::digest::sha256;
use super::footers::InputStamp;
use super::output::{Output, OutputFile};

/// The layout of the manifest, and what output files of one version have in common.
pub(crate) const OUTPUT_VERSION: u32 = 1;

const MANIFEST: &str = "_lakefold/manifest.json";
const DEFINITION: &str = "_lakefold/job.json";
const RECORDS: &str = "_lakefold/chunks/";

/// What a job's output depends on beside its input: names and values, in order.
pub(crate) type Definition = BTreeMap<String, serde_json::Value>;

/// One chunk that is written, or about to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) file: String,
    pub(crate) rows: usize,
    /// Rows that no model could take.
    pub(crate) invalid: usize,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) input: InputStamp,
    pub(crate) row_groups: Range<usize>,
}

/// The records of a directory.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// `None` where no job has written yet.
    pub(crate) definition: Option<Definition>,
    pub(crate) records: BTreeMap<String, Record>,
    /// Files of records that are not in the manifest yet: the run that wrote them did not end.
    pub(crate) loose: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored<T> {
    version: u32,
    content: T,
    /// SHA-256 of the content.
    checksum: String,
}

/// The definition's name.
pub(crate) fn job_id(definition: &Definition) -> String {
    sha256(json(definition).as_bytes())
}

fn json(value: &impl Serialize) -> String {
    // Of strings, numbers and maps with string keys: there is nothing that could fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// A control file's content, with a checksum.
pub(crate) fn seal<T: Serialize>(content: T) -> Vec<u8> {
    let stored = Stored {
        version: OUTPUT_VERSION,
        checksum: sha256(json(&content).as_bytes()),
        content,
    };
    let mut text = serde_json::to_string_pretty(&stored).unwrap_or_default();
    text.push('\n');
    text.into_bytes()
}

/// What [`seal`] has sealed.
///
/// # Errors
/// For what was altered, or written by a newer version.
pub(crate) fn open<T: Serialize + for<'de> Deserialize<'de>>(name: &str, text: &[u8]) -> Result<T> {
    let altered = |detail: String| {
        exec_datafusion_err!(
            "'{name}' of the output was altered or damaged ({detail}): what it says of the output's \
             files cannot be trusted; restore it, or write everything anew with --overwrite"
        )
    };
    let stored: Stored<serde_json::Value> =
        serde_json::from_slice(text).map_err(|error| altered(error.to_string()))?;
    if stored.version > OUTPUT_VERSION {
        return exec_err!(
            "'{name}' of the output is of version {}, this program knows {OUTPUT_VERSION}: update Lakefold",
            stored.version
        );
    }
    let content: T =
        serde_json::from_value(stored.content).map_err(|error| altered(error.to_string()))?;
    if sha256(json(&content).as_bytes()) != stored.checksum {
        return Err(altered("its checksum does not match".to_owned()));
    }
    Ok(content)
}

fn record_name(file: &str) -> String {
    format!("{RECORDS}{}.json", sha256(file.as_bytes()))
}

impl Manifest {
    /// Reads what is there; `files` are the output's.
    ///
    /// # Errors
    /// When something was altered, or cannot be read.
    pub(crate) async fn load(output: &Output, files: &[OutputFile]) -> Result<Self> {
        let mut manifest = Self::default();
        if let Some(text) = output.read(DEFINITION).await? {
            manifest.definition = Some(open(DEFINITION, &text)?);
        }
        if let Some(text) = output.read(MANIFEST).await? {
            let records: Vec<Record> = open(MANIFEST, &text)?;
            manifest.records = records.into_iter().map(|r| (r.file.clone(), r)).collect();
        }
        for file in files {
            if !file.name.starts_with(RECORDS) {
                continue;
            }
            if let Some(text) = output.read(&file.name).await? {
                let record: Record = open(&file.name, &text)?;
                manifest.loose.push(record.file.clone());
                manifest.records.insert(record.file.clone(), record);
            }
        }
        Ok(manifest)
    }

    /// Writes the definition, by which later runs know the job.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn begin(&mut self, output: &Output, definition: &Definition) -> Result<()> {
        if self.definition.as_ref() != Some(definition) {
            output.write(DEFINITION, seal(definition)).await?;
            self.definition = Some(definition.clone());
        }
        Ok(())
    }

    /// Writes everything into one file and removes the records beside it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn finish(&mut self, output: &Output) -> Result<()> {
        let records: Vec<&Record> = self.records.values().collect();
        let sealed = seal(&records);
        if output.read(MANIFEST).await?.as_deref() != Some(&sealed[..]) {
            output.write(MANIFEST, sealed).await?;
        }
        let loose: Vec<String> = self.loose.iter().map(|file| record_name(file)).collect();
        output.remove(&loose).await?;
        self.loose.clear();
        Ok(())
    }

    /// Forgets chunks.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub(crate) async fn forget(&mut self, output: &Output, files: &[String]) -> Result<()> {
        for file in files {
            self.records.remove(file);
        }
        let (gone, kept) = std::mem::take(&mut self.loose)
            .into_iter()
            .partition(|file| files.contains(file));
        self.loose = kept;
        let gone: Vec<String> = gone.iter().map(|file: &String| record_name(file)).collect();
        output.remove(&gone).await?;
        self.finish(output).await
    }
}

/// Puts a record beside the manifest, before its chunk is shown.
///
/// # Errors
/// When it cannot be written.
pub(crate) async fn announce(output: &Output, record: &Record) -> Result<()> {
    output.write(&record_name(&record.file), seal(record)).await
}

/// Control files of jobs, for starting anew.
pub(crate) fn is_record(name: &str) -> bool {
    name == MANIFEST || name == DEFINITION || name.starts_with(RECORDS)
}

/// What differs between two definitions, for people.
pub(crate) fn differences(old: &Definition, new: &Definition) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |value: Option<&serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => "none".to_owned(),
        Some(value) => value.to_string(),
    };
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| {
            format!(
                "{name} was {} and is {}",
                shown(old.get(name)),
                shown(new.get(name))
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            file: "a.00000-00001.parquet".to_owned(),
            rows: 7,
            invalid: 0,
            bytes: 100,
            sha256: sha256(b"x"),
            input: InputStamp {
                path: "a.parquet".to_owned(),
                bytes: 9,
                version: "v".to_owned(),
                footer: sha256(b"f"),
            },
            row_groups: 0..2,
        }
    }

    #[test]
    fn what_was_sealed_opens_and_what_was_altered_does_not() {
        let sealed = seal(record());
        assert_eq!(open::<Record>("x", &sealed).unwrap(), record());
        let text = String::from_utf8(sealed).unwrap();
        for (from, to) in [("\"rows\": 7", "\"rows\": 8"), ("}", ""), ("a.00", "b.00")] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text);
            let error = open::<Record>("x", altered.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("altered or damaged"), "{error}");
        }
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        let error = open::<Record>("x", newer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("update Lakefold"), "{error}");
    }

    #[test]
    fn differences_are_named() {
        let definition = |model: &str| {
            Definition::from([
                ("model".to_owned(), model.into()),
                ("select".to_owned(), "*".into()),
            ])
        };
        assert_eq!(
            differences(&definition("a"), &definition("b")),
            ["model was \"a\" and is \"b\""]
        );
    }
}
