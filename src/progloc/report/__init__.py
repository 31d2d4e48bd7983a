"""What every result is shown with: text, numbers, tables, statistics, figures, pages. It imports nothing above it."""
