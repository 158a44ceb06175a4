"""What people read: tables, the report, listings and the plan of a study."""
