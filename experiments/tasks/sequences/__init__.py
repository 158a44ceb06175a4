"""Tasks that copy, translate, count or follow what a sequence holds."""
