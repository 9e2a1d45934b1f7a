-- The ten nearest of 5,000 package descriptions twice: by comparing all of them, and through an HNSW graph, which on
-- tables of millions is the one that ends. Which share of the nearest does the graph find, if it keeps few or many
-- rows in view?
WITH exact AS (
    SELECT id, neighbor_id
    FROM knn('sample_data/debian_packages.parquet', package, embedding, k => 10, metric => 'cosine', method => 'exact')
),
found AS (
    SELECT 10 AS ef_search, id, neighbor_id
    FROM knn('sample_data/debian_packages.parquet', package, embedding,
        k => 10, metric => 'cosine', method => 'hnsw', ef_search => 10)
    UNION ALL
    SELECT 100, id, neighbor_id
    FROM knn('sample_data/debian_packages.parquet', package, embedding,
        k => 10, metric => 'cosine', method => 'hnsw', ef_search => 100)
)
SELECT found.ef_search, count(exact.id) / CAST(count(*) AS DOUBLE) AS recall
FROM found
LEFT JOIN exact ON exact.id = found.id AND exact.neighbor_id = found.neighbor_id
GROUP BY found.ef_search
ORDER BY found.ef_search;
