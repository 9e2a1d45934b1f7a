-- Embed each group on its own: PARTITION BY makes a fit for each section.
--
-- A fit needs more distinct rows than neighbours, so small sections are left out first.
-- spread: a check at a glance. Every column of every fit has variance 1 over the distinct rows; duplicates, plentiful
-- among descriptions of libraries, count here as often as they occur.
WITH large AS (
    SELECT section
    FROM 'sample_data/debian_packages.parquet'
    GROUP BY section
    HAVING count(DISTINCT embedding) >= 100
),
embedded AS (
    SELECT
        p.section,
        p.package,
        lle_embed(p.embedding, 2) OVER (PARTITION BY p.section) AS embedding
    FROM 'sample_data/debian_packages.parquet' AS p
    JOIN large ON p.section = large.section
)
SELECT
    section,
    count(*) AS packages,
    round(var_pop(embedding[1]), 1) AS spread_1,
    round(var_pop(embedding[2]), 1) AS spread_2
FROM embedded
GROUP BY section
ORDER BY packages DESC, section;
