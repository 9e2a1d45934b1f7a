-- Join the embedding back to metadata: where does each section lie, and how large are its packages?
--
-- The embedding is made from a key and the vector alone; everything else is joined on afterwards.
WITH embedded AS (
    SELECT
        package,
        lle_embed(embedding, 2) OVER () AS embedding
    FROM 'sample_data/debian_packages.parquet'
)
SELECT
    p.section,
    count(*) AS packages,
    round(avg(e.embedding[1]), 2) AS center_1,
    round(avg(e.embedding[2]), 2) AS center_2,
    median(p.installed_kib) AS median_kib
FROM embedded AS e
JOIN 'sample_data/debian_packages.parquet' AS p ON p.package = e.package
GROUP BY p.section
HAVING count(*) >= 50
ORDER BY packages DESC, p.section;
