"""The figures, one file a kind: charts by matplotlib's SVG canvas, slices as SVG over inlined PNG."""
