//! The session's options, as pgvector spells them: `SET hnsw.ef_search = 200`.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{Result, config_err};
use lakefold_manifold::HnswOptions;

const ENABLED: &str = "enabled";
const EF_SEARCH: &str = "ef_search";

/// How a session uses stored HNSW indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswSettings {
    /// `hnsw.enabled`: whether queries are answered from an index where one fits; true at first.
    pub enabled: bool,
    /// `hnsw.ef_search`: candidates that a search keeps, from 1 to [`HnswOptions::LARGEST_EF`]. More find more of the
    /// true neighbours and take longer; at least k are kept. [`HnswOptions::DEFAULT_EF_SEARCH`] at first.
    pub ef_search: usize,
}

impl Default for HnswSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            ef_search: HnswOptions::DEFAULT_EF_SEARCH,
        }
    }
}

impl HnswSettings {
    /// Those of a session; the defaults in one that was set up without them.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().copied().unwrap_or_default()
    }
}

impl ConfigExtension for HnswSettings {
    const PREFIX: &'static str = "hnsw";
}

// By hand, because what DataFusion's macro lists has no prefix, so that SHOW would not find it.
impl ExtensionOptions for HnswSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(*self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            ENABLED => match value.to_ascii_lowercase().as_str() {
                "true" | "on" | "t" | "1" => self.enabled = true,
                "false" | "off" | "f" | "0" => self.enabled = false,
                _ => return config_err!("hnsw.{ENABLED} must be true or false, got '{value}'"),
            },
            EF_SEARCH => match value.parse() {
                Ok(number @ 1..=HnswOptions::LARGEST_EF) => self.ef_search = number,
                _ => {
                    return config_err!(
                        "hnsw.{EF_SEARCH} must be a whole number from 1 to {}, got '{value}'",
                        HnswOptions::LARGEST_EF
                    );
                }
            },
            _ => {
                return config_err!(
                    "there is no setting hnsw.{key}: there are hnsw.{ENABLED} and hnsw.{EF_SEARCH}"
                );
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: String, description| ConfigEntry {
            key: format!("{}.{key}", Self::PREFIX),
            value: Some(value),
            description,
        };
        vec![
            entry(
                ENABLED,
                self.enabled.to_string(),
                "Whether ORDER BY distance LIMIT k, knn and knn_join are answered from an HNSW index where one \
                 fits. Without an index the answer of ORDER BY is exact either way.",
            ),
            entry(
                EF_SEARCH,
                self.ef_search.to_string(),
                "Candidates that a search of an HNSW index keeps: more find more of the true neighbours and take \
                 longer. At least k are kept.",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_shown_and_checked() {
        let mut config = ConfigOptions::new();
        config.extensions.insert(HnswSettings::default());
        assert_eq!(HnswSettings::of(&config), HnswSettings::default());
        config.set("hnsw.enabled", "off").unwrap();
        config.set("hnsw.ef_search", "200").unwrap();
        let settings = HnswSettings::of(&config);
        assert_eq!((settings.enabled, settings.ef_search), (false, 200));
        let entries = config.entries();
        let shown = |key| entries.iter().find(|entry| entry.key == key).cloned();
        let ef_search = shown("hnsw.ef_search").unwrap();
        assert_eq!(ef_search.value.as_deref(), Some("200"));
        for (key, value, said) in [
            ("hnsw.ef_search", "0", "from 1 to 1048576, got '0'"),
            ("hnsw.ef_search", "many", "got 'many'"),
            ("hnsw.enabled", "maybe", "true or false, got 'maybe'"),
            ("hnsw.m", "1", "no setting hnsw.m"),
        ] {
            let message = config.set(key, value).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }
}
