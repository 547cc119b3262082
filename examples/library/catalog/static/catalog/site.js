// Show the picture that is about to be uploaded.
const preview = document.querySelector("img.preview");
const file = document.querySelector("input[type=file][name=cover]");

if (preview && file) {
  file.addEventListener("change", () => {
    const [picture] = file.files;
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !picture;
    if (picture) preview.src = URL.createObjectURL(picture);
    else preview.removeAttribute("src");
  });
}
