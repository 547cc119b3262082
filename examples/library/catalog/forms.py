from django import forms
from django.core.files.uploadedfile import UploadedFile

from .models import Book

MAX_COVER_MB = 5


class CoverForm(forms.ModelForm):
    class Meta:
        model = Book
        fields = ["cover"]
        help_texts = {"cover": f"A JPEG, PNG or WebP picture of at most {MAX_COVER_MB} MB."}
        widgets = {
            "cover": forms.FileInput(attrs={"accept": "image/jpeg,image/png,image/webp"}),
        }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["cover"].required = True

    def clean_cover(self):
        cover = self.cleaned_data["cover"]
        if isinstance(cover, UploadedFile):
            if cover.image.format not in {"JPEG", "PNG", "WEBP"}:
                raise forms.ValidationError("Please choose a JPEG, PNG or WebP picture.")
            if cover.size > MAX_COVER_MB * 1024 * 1024:
                raise forms.ValidationError(f"This picture is larger than {MAX_COVER_MB} MB.")
        return cover
