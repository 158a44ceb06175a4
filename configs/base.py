"""Every field a study can set. A study's own file starts from `get_config()` and changes what it compares."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the shared defaults; each field says what it means."""
    config = ml_collections.ConfigDict()
    config.name = "base"  # the study's folder below --results
    config.task = "mqar:length=64,num_pairs=4"  # spec of the task, see --list_tasks
    config.seed = 0  # fixes data, initialisation and order

    config.model = ml_collections.ConfigDict()
    config.model.attention = "full"  # specs of the layers' mixers joined by '+'; 'conv' is a gated short convolution
    config.model.num_layers = 0  # the specs are laid over this many layers in turn; 0: one layer per spec
    config.model.model_dim = 64  # width of the residual stream
    config.model.num_heads = 2  # must divide model_dim
    config.model.num_kv_heads = 0  # must divide num_heads; 0: as many as num_heads
    config.model.mlp_dim = 0  # hidden width of the MLP after every mixer; 0: no MLP
    config.model.position = "none"  # spec of the position encoding: none, rope, alibi ..., see --list_positions
    config.model.short_conv = 0  # kernel of a causal convolution before the projections; 0: none
    config.model.qk_norm = False  # RMS-normalise queries and keys per head
    config.model.tied_embeddings = False  # unembed with the embedding matrix
    config.model.bidirectional = False  # attention sees the whole row, also where the task could be read causally
    config.model.readout = "position"  # where a task says, such as at a CLS token; "mean": of the row up to there
    config.model.encoder = "full"  # specs of the layers that read a task's context in both directions, joined by '+'
    config.model.cross_attention = "full"  # spec of every layer's attention to the context, where a task has one

    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 64  # rows per step
    config.train.steps = 1000  # at most; the schedule ends here
    config.train.learning_rate = 3e-3  # peak
    config.train.warmup_steps = 100  # linear from 0 to the peak, then cosine to 0
    config.train.weight_decay = 0.1  # AdamW, on matrices only
    config.train.clip_norm = 1.0  # of the global gradient
    config.train.eval_every = 100  # steps per jitted chunk, then one validation and one checkpoint
    config.train.solved_at = 0.99  # validation accuracy that counts as solved
    config.train.stop_when_solved = True  # end the run there

    config.eval = ml_collections.ConfigDict()
    config.eval.batch_size = 256  # rows per evaluation batch
    config.eval.validation_rows = 512  # rows drawn from the validation stream, the same at every evaluation
    config.eval.test_rows = 2048  # rows drawn from the test stream, once
    config.eval.test_lengths = ""  # lengths to test at, too: "128,256", of strings "41-80,81-160"; causal models
    config.eval.shifted = ""  # test on these tasks, too, specs joined by '|': other rows than the model was trained on

    config.study = ml_collections.ConfigDict()
    config.study.vary = ()  # default grid, such as ('model.attention=full|linear',); --vary replaces it
    config.study.seeds = 1  # runs per cell of the grid, at seeds config.seed, config.seed + 1, ...; --seeds replaces it
    config.study.select = ()  # varied keys chosen by validation accuracy, not shown, such as ('train.learning_rate',)
    return config
