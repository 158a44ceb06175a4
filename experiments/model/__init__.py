"""The model that all experiments use: layers around any mixer, and the objective that it is trained on."""
