"""Draw the embedded people: skeleton, body, clothes, scene and camera."""
