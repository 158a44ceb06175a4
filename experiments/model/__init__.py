"""The one model of every experiment: layers around any mixer, and the objective that it is trained on."""
