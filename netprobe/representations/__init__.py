"""How similar a network makes images to each other, compared with their pixels, with other layers and networks."""
