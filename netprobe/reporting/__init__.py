"""Results as a page or a table: `page.report`, `verdict.verdict`."""
