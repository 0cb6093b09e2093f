"""What ``chart_code`` reads from a figure, and how two figures are compared."""
