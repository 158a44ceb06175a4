"""What every static pattern shows causally at length 8, drawn by hand from the definition: rows are queries."""

PICTURES: dict[str, str] = {
    "full": """
        1 . . . . . . .
        1 1 . . . . . .
        1 1 1 . . . . .
        1 1 1 1 . . . .
        1 1 1 1 1 . . .
        1 1 1 1 1 1 . .
        1 1 1 1 1 1 1 .
        1 1 1 1 1 1 1 1
    """,
    "sliding_window:window_size=3": """
        1 . . . . . . .
        1 1 . . . . . .
        1 1 1 . . . . .
        . 1 1 1 . . . .
        . . 1 1 1 . . .
        . . . 1 1 1 . .
        . . . . 1 1 1 .
        . . . . . 1 1 1
    """,
    "strided_sparse:stride=3": """
        1 . . . . . . .
        1 1 . . . . . .
        1 1 1 . . . . .
        1 1 1 1 . . . .
        . 1 1 1 1 . . .
        . . 1 1 1 1 . .
        1 . . 1 1 1 1 .
        . 1 . . 1 1 1 1
    """,
    "bigbird:window_size=2,num_global=1,num_random=0,block_size=2": """
        1 . . . . . . .
        1 1 . . . . . .
        1 1 1 . . . . .
        1 . 1 1 . . . .
        1 . . 1 1 . . .
        1 . . . 1 1 . .
        1 . . . . 1 1 .
        1 . . . . . 1 1
    """,
    "linear": """
        1 . . . . . . .
        1 1 . . . . . .
        1 1 1 . . . . .
        1 1 1 1 . . . .
        1 1 1 1 1 . . .
        1 1 1 1 1 1 . .
        1 1 1 1 1 1 1 .
        1 1 1 1 1 1 1 1
    """,
}
