"""The ground floor of every result: tables, numbers, statistics, pictures, pages. It knows nothing above it."""
